"""Ways to loop over a training step that a user wrote, step(state, batch) -> (state, loss). Each returns `Steps`.

Nothing is known of the state but that it is a pytree. A step that cannot be traced raises NotImplementedError, with
JAX's reason, from every way but `as_given`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.backends.jax import runtime
from jaxopt_study.backends.jax.compiling import wide_options
from jaxopt_study.backends.jax.native import marked

__all__ = ["Steps", "as_given", "build", "donated", "jitted", "moved", "native_scan", "scan"]

State = Any
Batch = Any
Step = Callable[[State, Batch], tuple[State, Any]]

NATIVE_OPERATIONS = 1e6
"""Floating point operations of a step. Above, the library's matrix products are faster than loops in one function."""


class Steps(NamedTuple):
    """A way to loop over a user's step.

    Attributes:
        load: load(batches) converts batches of NumPy arrays to the form that `run` takes.
        start: start() returns a state that `run` may use up: the initial one, or the one after `before` steps.
        run: run(state, data) makes one step for each batch; it returns the last state and the loss of each step.
        stages: stages(data) compiles what `run` calls, and yields the name of each stage when it is done.
        whole: whole(state) is the state as the user's functions know it.
        before: How many steps `start` has made.
        one_state: Whether `start` sets back the one state that there is: call it again after the run, not before.
    """

    load: Callable[[Sequence[Batch]], Any]
    start: Callable[[], State]
    run: Callable[[State, Any], tuple[State, Any]]
    stages: Callable[[Any], Iterator[str]] = lambda _: iter(())
    whole: Callable[[State], State] = lambda state: state
    before: int = 0
    one_state: bool = False


def build(function: Callable[..., Any], *trees: Any) -> Any:
    """Return what a user's function makes of trees of NumPy arrays; its arrays are made on the device."""
    return function(*jax.tree.map(runtime.from_numpy, trees))


def moved(state: State) -> State:
    """Return the state with each floating point number moved up by one unit in the last place."""

    def up(leaf: Any) -> Any:
        return jnp.nextafter(leaf, jnp.inf) if _is_float(leaf) else leaf

    return jax.tree.map(up, state)


def as_given(step: Step, state: State) -> Steps:
    """Return the loop that calls the step from Python."""
    return Steps(_one_by_one, lambda: jax.tree.map(_copied, state), _loop(step))


def jitted(step: Step, state: State) -> Steps:
    """Return the loop that calls the step under `jax.jit`."""
    return _called(step, state, donate=())


def donated(step: Step, state: State) -> Steps:
    """Return the same loop with the state's buffers donated, so that each step writes its result in place."""
    return _called(step, state, donate=(0,))


def scan(step: Step, state: State) -> Steps:
    """Return the loop that compiles all its steps into one `lax.scan`."""
    on_arrays, start, whole = _on_arrays(step, state)
    run = jax.jit(lambda state, data: jax.lax.scan(on_arrays, state, data))
    return Steps(_stacked, start, run, lambda data: _compiled(run, start(), data), whole)


def native_scan(step: Step, state: State) -> Steps:
    """Return the scan that XLA compiles into one native function on a CPU: see `native`.

    Raises:
        NotImplementedError: The device is no CPU.
    """
    if jax.default_backend() != "cpu":
        raise NotImplementedError("XLA makes a native function of a loop on a CPU alone")
    on_arrays, start, whole = _on_arrays(step, state)
    run = jax.jit(marked(lambda state, data: jax.lax.scan(on_arrays, state, data)), compiler_options=wide_options())

    def stages(data: Any) -> Iterator[str]:
        batch = jax.tree.map(lambda leaf: leaf[0], data)
        _require_small(jax.jit(on_arrays), start(), batch)
        return _compiled(run, start(), data, "XLA makes no native function of this step")

    return Steps(_stacked, start, run, stages, whole)


def _called(step: Step, state: State, donate: tuple[int, ...]) -> Steps:
    on_arrays, start, whole = _on_arrays(step, state)
    compiled = jax.jit(on_arrays, donate_argnums=donate)
    return Steps(_one_by_one, start, _loop(compiled), lambda data: _compiled(compiled, start(), data[0]), whole)


def _loop(step: Step) -> Callable[[State, Any], tuple[State, list[Any]]]:
    def run(state: State, data: Any) -> tuple[State, list[Any]]:
        losses = []
        for batch in data:
            state, loss = step(state, batch)
            losses.append(loss)
        return state, losses

    return run


def _one_by_one(batches: Sequence[Batch]) -> list[Batch]:
    return [jax.tree.map(runtime.from_numpy, batch) for batch in batches]


def _stacked(batches: Sequence[Batch]) -> Batch:
    try:
        return jax.tree.map(lambda *leaves: runtime.from_numpy(np.stack(leaves)), *batches)
    except ValueError as error:
        raise NotImplementedError(f"lax.scan needs batches of one shape: {error}") from None


def _on_arrays(step: Step, state: State) -> tuple[Step, Callable[[], State], Callable[[State], State]]:
    """Return the step on a state of arrays alone, which is what can be compiled; how it starts; and its whole state.

    Other leaves, such as the activation function of an equinox module, are constants of the compiled code.
    """
    leaves, tree = jax.tree.flatten(jax.tree.map(_as_array, state))
    varies = [isinstance(leaf, jax.Array) for leaf in leaves]
    if all(varies):
        return step, lambda: jax.tree.map(_copied, tree.unflatten(leaves)), lambda state: state

    def split(state: State) -> list[Any]:
        return [leaf for leaf, kept in zip(jax.tree.leaves(state), varies, strict=True) if kept]

    def whole(arrays: Sequence[Any]) -> State:
        rest = iter(arrays)
        return tree.unflatten([next(rest) if kept else leaf for leaf, kept in zip(leaves, varies, strict=True)])

    def on_arrays(arrays: Sequence[Any], batch: Batch) -> tuple[list[Any], Any]:
        state, loss = step(whole(arrays), batch)
        return split(state), loss

    return on_arrays, lambda: [_copied(leaf) for leaf in split(tree.unflatten(leaves))], whole


def _compiled(function: Any, state: State, data: Any, words: str = "the step cannot be compiled") -> Iterator[str]:
    """Compile, and yield each stage's name.

    Raises:
        NotImplementedError: JAX cannot trace or compile the step; after `words` come JAX's.
    """
    try:
        yield from runtime.compilation(function, state, data)
    except Exception as error:  # of whatever the user's step does
        raise NotImplementedError(_refused(error, words)) from None


def _require_small(step: Any, state: State, batch: Batch) -> None:
    try:
        analysis = step.lower(state, batch).cost_analysis() or {}
    except Exception as error:  # of whatever the user's step does
        raise NotImplementedError(_refused(error, "the step cannot be compiled")) from None
    operations = float(analysis.get("flops", 0))
    if operations > NATIVE_OPERATIONS:
        raise NotImplementedError(
            f"a step has {operations:,.0f} floating point operations; above {NATIVE_OPERATIONS:,.0f} one native "
            "function is slower than lax.scan"
        )


def _refused(error: Exception, words: str) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{words}: {type(error).__name__}: {lines[0]}"


def _copied(leaf: Any) -> Any:
    # Each leaf a copy of its own: a step may donate its state, and no buffer can be donated twice.
    return leaf.copy() if isinstance(leaf, jax.Array) else leaf


def _as_array(leaf: Any) -> Any:
    """Return numbers as arrays: a Python number would become one in the first step, and be compiled anew."""
    return jnp.asarray(np.asarray(leaf)) if isinstance(leaf, int | float | np.ndarray | np.generic) else leaf


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
