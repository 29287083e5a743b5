"""Record a training in one line: of PyTorch by its optimizer's hook, of JAX by a wrapper of its step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxopt_study.parity.also import Also
from jaxopt_study.parity.captured import Captured
from jaxopt_study.parity.saving import Writer
from jaxopt_study.parity.trees import Leaves, Tree, flatten


def _itself(value: Any) -> Any:
    return value


@contextmanager
def record(
    model: Any,
    optimizer: Any,
    path: str | Path,
    *,
    buffers: bool = False,
    gradients: bool = False,
    activations: bool = False,
    also: Callable[[], Mapping[str, Any]] = dict,
) -> Iterator[Path]:
    """Record the parameters of a PyTorch model before the first step of its optimizer and after each.

    What is recorded of a step is what the next one finds: weights may be clamped after the optimizer's step. The file
    is written at the end of the `with` block, also where the training raised: with the steps made until then.
    With gradients recorded on both sides, `locate` says which part of a step is at fault.

    Args:
        model: The module; its leaves have the names of `model.named_parameters()`.
        optimizer: The optimizer that steps these parameters. Steps that `GradScaler` skips are not recorded.
        path: The file; `.npz` is added where it is missing.
        buffers: Whether to record the buffers too, such as the statistics of batch normalization.
        gradients: Whether to record the gradients, before clipping and as the optimizer is given them, and the learning
            rate, or that of each parameter where groups have different ones. A file has three times the size then.
        activations: Whether to record digests of the outputs of the modules, where they have gradients.
        also: also() returns what else is known after a step: `{"loss": loss, "batch": (inputs, targets)}`, of which the
            batch is recorded as digests of its rows.

    Yields:
        The path of the file.

    Raises:
        ValueError: The optimizer takes no hooks, or none of its parameters is the model's.

    Example:
        >>> with record(model, optimizer, "torch.npz") as recorded:  # doctest: +SKIP
        ...     train(model, optimizer)
        >>> print(locate(recorded, "jax.npz"))  # doctest: +SKIP
    """
    params = dict(model.named_parameters())
    _check(params, optimizer)
    named = Also()

    def tree() -> Tree:
        return params | dict(model.named_buffers()) if buffers else params

    pending: list[Leaves] = []

    def write_last(*_: Any) -> None:
        # Only before the next step the last one is over: weights may be clamped or averaged after the optimizer's.
        while pending:
            writer.add(tree() | pending.pop())

    def after_step(*_: Any) -> None:
        seen = captured.step()
        more = also()
        pending.append(named.leaves(seen | dict(more) if isinstance(more, Mapping) else more))

    writer = Writer(path)
    try:
        writer.add(tree())
        captured = Captured(model, optimizer, params, gradients=gradients, activations=activations)
        hooks = [optimizer.register_step_pre_hook(write_last), optimizer.register_step_post_hook(after_step)]
        try:
            yield writer.path
        finally:
            for hook in hooks:
                hook.remove()
            captured.close()
            write_last()
            writer.close()
    finally:
        writer.discard()


class Recording:
    """A step function that records the parameters before its first call and after each.

    Use it in a `with` block, or call `close` after the last step. Otherwise the file is written once the step is no
    longer in use, or when Python ends.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        path: str | Path,
        params: Callable[[Any], Tree],
        state: Callable[[Any], Any],
        also: Callable[..., Mapping[str, Any]] | None = None,
    ) -> None:
        self._step, self._params, self._state, self._also = step, params, state, also
        self._named = Also()
        self._writer = Writer(path)
        self._finalizer = weakref.finalize(self, _finish, self._writer)

    @property
    def path(self) -> Path:
        """The file that is written in the end."""
        return self._writer.path

    def __call__(self, state: Any, *batch: Any, **options: Any) -> Any:
        """Make a step, and return what the step returns."""
        if not self._writer.steps:
            self._writer.add(self._params(state))
        output = self._step(state, *batch, **options)
        params = self._params(state if output is None else self._state(output))
        # The batch is not donated, other than the state.
        also = self._named.leaves(self._also(output, *batch)) if self._also else {}
        self._writer.add(flatten(params) | also if also else params)
        return output

    def close(self) -> None:
        """Write the file; a second call does nothing."""
        self._finalizer()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if not self._writer.steps and error is None:
            raise ValueError(f"the step was never called, so {self.path} was not written")


def recorded(
    step: Callable[..., Any],
    path: str | Path,
    params: Callable[[Any], Tree] = _itself,
    state: Callable[[Any], Any] = _itself,
    also: Callable[..., Mapping[str, Any]] | None = None,
) -> Recording:
    """Return a step function that records what `step` does; for JAX, outside of `jax.jit` and `jax.lax.scan`.

    The file is written at the end of the `with` block, also where the training raised: with the steps made until then.

    Args:
        step: step(state, batch) returns the new state, or None where it changed `state` in place.
        path: The file; `.npz` is added where it is missing.
        params: params(state) is the tree of the parameters. With `port.to_torch_params` it has the names and layouts of
            a PyTorch model, as in the example.
        state: state(output) is the state in what the step returns: `lambda output: output[0]` for `(state, loss)`.
        also: also(output, batch) returns what else is known of a step: any of "gradients", "clipped", "loss",
            "learning_rate", "activations" and "batch". The gradients have the names and layouts of the parameters;
            batch and activations are recorded as digests of their rows. Flax's `intermediates` are named as the modules
            are, `block.dense`.

    Example:
        >>> def params(state):
        ...     return port.to_torch_params(state.params, dict(model.named_parameters()))
        >>> with recorded(step, "jax.npz", params) as step:  # doctest: +SKIP
        ...     for batch in batches:
        ...         state = step(state, batch)
    """
    return Recording(step, path, params, state, also)


def _finish(writer: Writer) -> None:
    if writer.steps:
        writer.close()
    writer.discard()


def _check(params: dict[str, Any], optimizer: Any) -> None:
    if not hasattr(optimizer, "register_step_post_hook"):
        raise ValueError(f"optimizer is a {type(optimizer).__name__}: give one of torch.optim, or use `recorded`")
    stepped = {id(leaf) for group in optimizer.param_groups for leaf in group["params"]}
    if not stepped & {id(leaf) for leaf in params.values()}:
        raise ValueError("the optimizer steps no parameter of this model")
