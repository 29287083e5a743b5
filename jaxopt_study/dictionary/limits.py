"""What makes a live optimizer less than exact, as far as it shows, and what of it is not carried over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxopt_study.dictionary.leaves import Groups, is_frozen
from jaxopt_study.dictionary.options import IMPLEMENTATION
from jaxopt_study.dictionary.schedules import place
from jaxopt_study.dictionary.translation import APPROXIMATE, CONDITIONS

BEGINS = "init begins at step 0; to go on where torch is, use jaxopt_study.port.to_optax_state"
HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def limits_of(
    optimizer: Any, groups: Groups, frozen_known: bool, schedules: Mapping[str, Any], scheduler: Any, every: int
) -> tuple[tuple[str, str], ...]:
    """Return (status, words) of what holds of the object as a whole.

    Args:
        optimizer: The object.
        groups: Its parameter groups.
        frozen_known: Whether it is known which leaves stay as they are.
        schedules: The functions of the learning rate; none where it is constant.
        scheduler: What they were translated from, if from a scheduler.
        every: After how many optimizer steps it steps.
    """
    leaves = [p for group in groups for p in group["params"]]
    found = [*_of_the_rate(groups, schedules, scheduler, every)]
    if any(key in group for group in groups for key in ("max_momentum", "base_momentum")):
        found.append((APPROXIMATE, "its scheduler changes momentum or betas too; here they stay as they are now"))
    if any(getattr(optimizer, hook, None) for hook in HOOKS):
        found.append((APPROXIMATE, "its step hooks are functions of torch, and are not called here"))
    frozen = sum(map(is_frozen, leaves))
    if frozen and not frozen_known:
        words = f"only if you leave the {frozen} frozen parameters (requires_grad=False) out of the JAX optimizer"
        found.append((CONDITIONS, f"{words}; with model= the translation does it"))
    if any(is_frozen(p) and getattr(p, "grad", None) is not None for p in leaves):
        words = (
            "frozen parameters (requires_grad=False) still have a gradient, so torch updates them: set .grad to None"
        )
        found.append((APPROXIMATE, words))
    if _misses_gradients(optimizer, [p for p in leaves if not is_frozen(p)]):
        words = "if each parameter has a gradient in each step. Here some had none, and torch leaves these unchanged"
        found.append((CONDITIONS, words))
    types = {str(getattr(p, "dtype", "")) for p in leaves}
    if any("float16" in kind for kind in types):
        words = "to within rounding, which in 16 bits is up to 1 part in 256 of a parameter per step"
        found.append((CONDITIONS, words))
    if "torch.float64" in types and any("float32" in str(getattr(group.get("lr"), "dtype", "")) for group in groups):
        found.append((CONDITIONS, "to within 1e-7 of a step: the learning rate is a tensor of float32"))
    return tuple(found)


def _of_the_rate(groups: Groups, schedules: Mapping[str, Any], scheduler: Any, every: int) -> Iterator[tuple[str, str]]:
    if not schedules and any("initial_lr" in group for group in groups):
        yield CONDITIONS, "while the learning rate stays as it is now. A scheduler changes it: give scheduler="
    if scheduler is not None:
        often = "each optimizer.step(); where it follows each epoch of n steps, give every=n"
        words = often if every == 1 else f"once after every {every} calls of optimizer.step()"
        yield CONDITIONS, f"if scheduler.step() follows {words}"
    if schedules and any(group.get("max_iter", 1) > 1 for group in groups):
        yield APPROXIMATE, "its schedule counts iterations here, and calls of step(closure) in torch"


def _misses_gradients(optimizer: Any, leaves: Sequence[Any]) -> bool:
    """Say whether some parameters have a gradient, or a state, and others have none, or made fewer steps."""
    state = getattr(optimizer, "state", {})
    one_for_all = any("n_iter" in s for s in state.values())  # L-BFGS has it in the first parameter's place
    steps = set() if one_for_all else {_steps(state.get(p, {})) for p in leaves}
    return len({getattr(p, "grad", None) is None for p in leaves}) > 1 or len(steps) > 1


def _steps(state: Mapping[str, Any]) -> float:
    """Return the steps that a parameter made; where its state does not say so, 1 if it has one."""
    return float(state.get("step", bool(state)))


def notes_of(optimizer: Any, groups: Groups, frozen: Sequence[str], scheduler: Any) -> tuple[str, ...]:
    """Return what is not carried over; `frozen` are the parameters that stay as they are."""
    notes = []
    if frozen:
        words = (
            "parameters that need no gradient, or are not this optimizer's: they stay unchanged. If another optimizer"
        )
        notes.append(f"{len(frozen)} {words} updates them, put both into one optax.partition")
    if any(_steps(state) for state in getattr(optimizer, "state", {}).values()):
        notes.append(f"its state (moments, steps made); {BEGINS}")
    if scheduler is not None and place(scheduler) > 0:
        notes.append(f"the scheduler's place, step {place(scheduler)}; {BEGINS}")
    chosen = sorted({key for group in groups for key in IMPLEMENTATION if group.get(key)})
    if chosen:
        notes.append(f"{', '.join(chosen)}: torch's choice of code; the mathematics is the same, rounding is not")
    return tuple(notes)
