"""What stands around a live optimizer: clipping before it, and gradients that are added up over several batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxopt_study.dictionary import clipping
from jaxopt_study.dictionary.allowed import COUNT, DictionaryError, short
from jaxopt_study.dictionary.calls import read
from jaxopt_study.dictionary.leaves import Groups, is_frozen
from jaxopt_study.dictionary.translation import CONDITIONS, Translation, chained, indented


@dataclass(frozen=True)
class Around:
    """What stands around an optimizer.

    Attributes:
        clips: The clippings, in the order in which torch calls them.
        accumulate: How many batches an optimizer step has.
        loss_divided: Whether torch divides the loss by their number, and JAX does not.
        wide: Whether parameters are of float64.
    """

    clips: tuple[Translation, ...] = ()
    accumulate: int = 1
    loss_divided: bool = False
    wide: bool = False

    def code(self, optimizer: str, partitioned: bool) -> str:
        """Return code for the optimizer with what is around it; `labels` of a partition say what is frozen."""
        clips = [clip.expression for clip in self.clips]
        if partitioned:  # frozen leaves have a gradient in JAX, and none in torch: they must not count in a norm
            clips = [f"optax.masked({clip}, trainable(labels))" for clip in clips]
        code = chained([*clips, optimizer])
        if self.accumulate == 1:
            return code
        wide = ", accumulator_dtype=jnp.float64" if self.wide else ""
        options = f"every_k_schedule={self.accumulate}, use_grad_mean=False{wide}"
        code = f"optax.MultiSteps(\n    {indented(code)},\n    {options},\n).gradient_transformation()"
        return chained([f"optax.scale(1 / {self.accumulate})", code]) if self.loss_divided else code

    def limits(self, groups: Groups, model: Any) -> Iterator[tuple[str, str]]:
        """Return (status, words) of what is assumed."""
        yield from ((clip.status, f"{clip.name}: {clip.condition}") for clip in self.clips)
        others = _not_its_own(groups, model)
        if others and any(clip.name == "clip_grad_norm_" for clip in self.clips):
            words = f"if clip_grad_norm_ is not given the {others} trainable parameters that are not the optimizer's"
            yield CONDITIONS, f"{words}: here they do not count in the norm"
        if self.accumulate > 1:
            which = "of the loss on which torch calls backward(), divided or not"
            if self.loss_divided:
                which = f"of the loss before torch divides it: (loss / {self.accumulate}).backward()"
            often = f"if optimizer.step() follows once after every {self.accumulate} calls of backward()"
            yield CONDITIONS, f"{often}. The gradients given to optax are those {which}"
            yield CONDITIONS, "while gradients and updates are finite: optax.MultiSteps multiplies some of them by 0"


def around(optimizer: Any, groups: Groups, clip: Any, accumulate: Any, loss_divided: bool) -> Around:
    """Return what stands around a live optimizer; see `live.translate_live`."""
    given = list(clip) if isinstance(clip, list | tuple) else [] if clip is None else [clip]
    clips = tuple(map(_clipping, given))
    if not COUNT.test(accumulate):
        raise DictionaryError(f"accumulate={short(accumulate)} must be a whole number of at least 1: of batches")
    if type(optimizer).__name__ == "LBFGS" and (clips or accumulate > 1):
        raise DictionaryError("L-BFGS calls its closure for each gradient: clip= and accumulate= are not of its step")
    wide = any("float64" in str(getattr(p, "dtype", "")) for group in groups for p in group["params"])
    return Around(clips, accumulate, bool(loss_divided), wide)


def _clipping(given: Any) -> Translation:
    if isinstance(given, str):
        call = read(given)
        if call.name in clipping.OPTIONS:
            return clipping.translate(call.name, call.by_name(clipping.OPTIONS[call.name]))
    if isinstance(given, Translation) and given.makes == "clip":
        return given
    raise DictionaryError(f"clip={short(given)} is no clipping: give torch's call, as 'clip_grad_norm_(params, 1.0)'")


def _not_its_own(groups: Groups, model: Any) -> int:
    """Return how many trainable parameters of a model are not the optimizer's."""
    own = {id(p) for group in groups for p in group["params"]}
    return sum(id(p) not in own and not is_frozen(p) for p in (model.parameters() if model is not None else ()))
