"""The other direction: what optax has and torch.optim has not; and which optax functions are someone's counterpart."""

from __future__ import annotations

from jaxopt_study.dictionary.options import OPTIONS

OPTAX_ALONE: dict[str, tuple[str, ...]] = {
    "optax": (
        "adabelief", "adamaxw", "adan", "fromage", "lamb", "lars", "lion", "lookahead", "noisy_sgd", "novograd",
        "optimistic_adam", "optimistic_adam_v2", "optimistic_gradient_descent", "polyak_sgd", "sign_sgd", "signum",
        "sm3", "yogi",
    ),
    "optax.contrib": (
        "acprop", "ademamix", "adopt", "cocob", "dadapt_adamw", "dog", "dowg", "dpsgd", "galore", "madgrad",
        "mechanize", "momo", "momo_adam", "prodigy", "sam", "schedule_free", "schedule_free_adamw",
        "schedule_free_sgd", "simplified_ademamix", "sophia",
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
    "selective_transform": "parameters with requires_grad=False, or not given to the optimizer",
    "sgd": "SGD",
    "contrib.muon": "Muon",
}
"""Of these optax functions torch.optim has the class, though not always the same arithmetic."""

OPTAX = frozenset(
    [
        *(f"optax.{name}" for name in COUNTERPARTS),
        *(f"{where}.{name}" for where, names in OPTAX_ALONE.items() for name in names),
    ]
)
"""Every optimizer of optax that is a counterpart or has none."""

TORCH = frozenset(f"torch.optim.{name}" for name in OPTIONS)
"""Every class of torch.optim that is in the dictionary."""


def place(name: str) -> str:
    """Return where optax has an optimizer that torch.optim has not, `optax.lion` say, or nothing."""
    plain = name.lower()
    return next((f"{where}.{plain}" for where, names in OPTAX_ALONE.items() if plain in names), "")
