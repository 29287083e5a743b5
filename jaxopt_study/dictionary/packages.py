"""Optimizers of other PyTorch packages, each beside what optax has under that name.

Of a row that is said to follow the same rule the study `dictionary` holds the two to a bound; of the others it shows
how far they differ. Where the package is not installed, they are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Peer:
    """An optimizer of another package.

    Attributes:
        name: Its class, with the module that it is imported from.
        options: What differs from the class's own defaults; the learning rate among them.
        expression: Code for what optax has; nothing where it has none.
        same: Whether both follow the same rule.
        reason: Where the defaults differ.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    expression: str = ""
    same: bool = False
    reason: str = ""

    @property
    def package(self) -> str:
        """The package to install."""
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        """The row's name in records: the call as one would write it."""
        return f"{self.name}({', '.join(f'{option}={value!r}' for option, value in self.options.items())})"


LION = "the default of weight_decay is 0 in PyTorch's packages and 1e-3 in optax.lion"
BELIEF = "the default of eps is 1e-3 in torch_optimizer, and 1e-16 in pytorch_optimizer and optax"
FREE = "compared at train(), where gradients are taken. For eval() optax has schedule_free_eval_params"

PEERS: tuple[Peer, ...] = (
    Peer("lion_pytorch.Lion", {"lr": 1e-3, "weight_decay": 0.1}, "optax.lion(1e-3, weight_decay=0.1)", True, LION),
    Peer("pytorch_optimizer.Lion", {"lr": 1e-3, "weight_decay": 0.1}, "optax.lion(1e-3, weight_decay=0.1)", True, LION),
    Peer("pytorch_optimizer.AdaBelief", {"lr": 1e-3}, "optax.adabelief(1e-3)", True, BELIEF),
    Peer("torch_optimizer.AdaBelief", {"lr": 1e-3, "eps": 1e-16}, "optax.adabelief(1e-3)", True, BELIEF),
    Peer("pytorch_optimizer.AdEMAMix", {"lr": 1e-3}, "optax.contrib.ademamix(1e-3)", True, "without weight decay"),
    Peer("pytorch_optimizer.Fromage", {"lr": 1e-2}, "optax.fromage(1e-2)", True),
    Peer("pytorch_optimizer.SignSGD", {"lr": 1e-3, "momentum": 0.0}, "optax.sign_sgd(1e-3)", True, "without momentum"),
    Peer("pytorch_optimizer.Yogi", {"lr": 1e-2}, "optax.yogi(1e-2)", True),
    Peer("torch_optimizer.Yogi", {"lr": 1e-2}, "optax.yogi(1e-2)", True),
    Peer("schedulefree.AdamWScheduleFree", {"lr": 2.5e-3}, "optax.contrib.schedule_free_adamw(2.5e-3)", True, FREE),
    Peer("schedulefree.SGDScheduleFree", {"lr": 0.1}, "optax.contrib.schedule_free_sgd(0.1)", True, FREE),
    Peer("adan_pytorch.Adan", {"lr": 1e-3}, "optax.adan(1e-3)"),
    Peer("pytorch_optimizer.Adan", {"lr": 1e-3}, "optax.adan(1e-3)"),
    Peer("pytorch_optimizer.ADOPT", {"lr": 1e-3}, "optax.contrib.adopt(1e-3)"),
    Peer("pytorch_optimizer.LARS", {"lr": 0.1}, "optax.lars(0.1)"),
    Peer("pytorch_optimizer.Lamb", {"lr": 1e-3}, "optax.lamb(1e-3)"),
    Peer("torch_optimizer.Lamb", {"lr": 1e-3}, "optax.lamb(1e-3)"),
    Peer("pytorch_optimizer.MADGRAD", {"lr": 1e-2}, "optax.contrib.madgrad(1e-2)"),
    Peer("torch_optimizer.NovoGrad", {"lr": 1e-3}, "optax.novograd(1e-3)"),
    Peer("prodigyopt.Prodigy", {"lr": 1.0}, "optax.contrib.prodigy(1.0)"),
    Peer("pytorch_optimizer.Prodigy", {"lr": 1.0}, "optax.contrib.prodigy(1.0)"),
    Peer("pytorch_optimizer.ScheduleFreeAdamW", {"lr": 2.5e-3}, "optax.contrib.schedule_free_adamw(2.5e-3)"),
    Peer("pytorch_optimizer.RAdam", {"lr": 1e-3}, "optax.radam(1e-3)"),
    Peer("timm.optim.Adan", {"lr": 1e-3}, "optax.adan(1e-3)"),
    Peer("timm.optim.Lamb", {"lr": 1e-3}, "optax.lamb(1e-3)"),
    Peer("timm.optim.Lion", {"lr": 1e-3}, "optax.lion(1e-3, weight_decay=0.0)"),
    Peer("pytorch_optimizer.SOAP", {"lr": 1e-3}),
)
