"""The other direction: what optax has and torch.optim has not; and which optax functions are someone's counterpart."""

from __future__ import annotations

OPTAX_ALONE: dict[str, tuple[str, ...]] = {
    "optax": (
        "adabelief", "adamaxw", "adan", "fromage", "lamb", "lars", "lion", "noisy_sgd", "novograd", "optimistic_adam",
        "optimistic_adam_v2", "optimistic_gradient_descent", "polyak_sgd", "sign_sgd", "signum", "sm3", "yogi",
    ),
    "optax.contrib": (
        "acprop", "ademamix", "adopt", "cocob", "dadapt_adamw", "dog", "dowg", "dpsgd", "galore", "madgrad", "momo",
        "momo_adam", "prodigy", "sam", "schedule_free_adamw", "schedule_free_sgd", "simplified_ademamix", "sophia",
    ),
}  # fmt: skip

COUNTERPARTS: dict[str, str] = {
    "adadelta": "Adadelta",
    "adafactor": "Adafactor",
    "adagrad": "Adagrad",
    "adam": "Adam",
    "adamax": "Adamax",
    "adamw": "AdamW",
    "amsgrad": "Adam(amsgrad=True)",
    "lbfgs": "LBFGS",
    "nadam": "NAdam(momentum_decay=1e9)",
    "nadamw": "NAdam(momentum_decay=1e9, decoupled_weight_decay=True)",
    "radam": "RAdam",
    "rmsprop": "RMSprop",
    "rprop": "Rprop",
    "sgd": "SGD",
    "contrib.muon": "Muon",
}
"""Of these optax functions torch.optim has the class, though not always the same arithmetic."""
