"""A chain of optax as torch has it: clipping, and decay of the gradient, before one optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxopt_study.dictionary import allowed
from jaxopt_study.dictionary.allowed import REQUIRED, Allowed, DictionaryError, Table, check
from jaxopt_study.dictionary.calls import Call
from jaxopt_study.dictionary.options import OPTIONS
from jaxopt_study.dictionary.translation import APPROXIMATE, CONDITIONS, EXACT

NUMBER = (REQUIRED, Allowed(allowed.NOT_NEGATIVE.test, allowed.NOT_NEGATIVE.words, by_torch=False))
NO_MASK = (None, Allowed(lambda v: v is None, "None: make a parameter group of torch for each", by_torch=False))
PARTS: Mapping[str, Table] = {
    "add_decayed_weights": {"weight_decay": NUMBER, "mask": NO_MASK},
    "clip": {"max_delta": NUMBER},
    "clip_by_global_norm": {"max_norm": NUMBER},
}
"""What may stand before an optimizer, and its options."""
CLIPPINGS = {"clip": "clip_grad_value_", "clip_by_global_norm": "clip_grad_norm_"}


class Chain(NamedTuple):
    """What stands before an optimizer.

    Attributes:
        clip: torch's call of the clipping; empty if there is none.
        weight_decay: The multiple of the parameters that is added to the gradient.
    """

    clip: str = ""
    weight_decay: float = 0.0

    @property
    def status(self) -> str:
        """How exact the clipping is."""
        return (APPROXIMATE if "norm" in self.clip else CONDITIONS) if self.clip else EXACT

    @property
    def condition(self) -> str:
        """What to do about the clipping."""
        if not self.clip:
            return ""
        words = f"call {self.clip} after backward() and before each step()"
        return f"{words}. torch divides by the norm + 1e-6, and optax by the norm" if "norm" in self.clip else words

    def decayed(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a torch class, with the decay of the chain.

        Raises:
            DictionaryError: The class has no decay of the gradient, or one of its own already.
        """
        if not self.weight_decay:
            return given
        own = any(given.get(option) for option in ("weight_decay", "decoupled_weight_decay", "maximize"))
        if own or kind == "AdamW" or "weight_decay" not in OPTIONS[kind]:
            raise DictionaryError(f"torch.optim.{kind} has no decay of the gradient beside its own: give it a group")
        return given | {"weight_decay": self.weight_decay}


def split(call: Call) -> tuple[Call, Chain]:
    """Return the optimizer of `optax.chain(...)`, and what stands before it.

    Raises:
        DictionaryError: A part is not known, or the order is another.
    """
    *before, last = call.arguments or (None,)
    clip, decay = "", 0.0
    for part in before:
        name = part.name.removeprefix("optax.") if isinstance(part, Call) else ""
        if name not in PARTS or decay or (clip and name in CLIPPINGS):
            raise DictionaryError(f"{part!r} in optax.chain cannot be translated: first a clipping, then the decay")
        values = check(f"optax.{name}", PARTS[name], part.by_name(PARTS[name], target=False))
        if name in CLIPPINGS:
            clip = f"torch.nn.utils.{CLIPPINGS[name]}(params, {next(iter(values.values()))!r})"
        else:
            decay = values["weight_decay"]
    if not isinstance(last, Call) or call.options or last.name.removeprefix("optax.") in PARTS:
        raise DictionaryError(
            "optax.chain must end with an optimizer, as optax.chain(optax.clip(1.0), optax.adam(1e-3))"
        )
    return last, Chain(clip, decay)
