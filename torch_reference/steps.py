"""Ways to loop over a training step that a user wrote, step(state, batch) -> (state, loss). Each returns `Steps`.

The state is any object that `copy.deepcopy` can copy, such as (model, optimizer). The step may change it in place or
return another. A way that this machine or this step has not raises NotImplementedError with the reason.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_reference import runtime

__all__ = ["Steps", "as_given", "build", "compiled", "cuda_graph", "moved"]

State = Any
Batch = Any
Step = Callable[[State, Batch], tuple[State, Any]]
Pairs = list[tuple[Tensor, Tensor]]

SEED = 0
"""Dropout draws the same numbers in each run, and so do initializers."""


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
    """Return what a user's function makes of trees of NumPy arrays; its tensors are made on the device.

    Initial parameters that PyTorch draws are the same in each process.
    """
    torch.manual_seed(SEED)
    with torch.device(runtime.from_numpy(np.zeros(())).device):
        return function(*_map(runtime.from_numpy, trees))


def moved(state: State) -> State:
    """Return the state with each floating point number moved up by one unit in the last place."""
    copied, pairs = _copied(state)
    with torch.no_grad():
        for _, tensor in pairs:
            if tensor.is_floating_point():
                tensor.copy_(torch.nextafter(tensor, torch.full_like(tensor, torch.inf)))
    return copied


def as_given(step: Step, state: State) -> Steps:
    """Return the loop that calls the step from Python."""

    def start() -> State:
        torch.manual_seed(SEED)
        return copy.deepcopy(state)

    return Steps(_load, start, _loop(step))


def compiled(step: Step, state: State) -> Steps:
    """Return the loop that calls the step under `torch.compile`.

    A compiled step is bound to the tensors of its optimizer, so there is one state, which `start` sets back in place.

    Raises:
        NotImplementedError: Nothing would be compiled; see `runtime.compiled`.
    """
    held = _Held(step, state)
    # PyTorch would compile a test program, in a third of all the time, to see whether the C++ compiler knows the
    # vector instructions that PyTorch uses already. It would keep the answer for later runs, and this worker has none.
    vectors = torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    run = _loop(runtime.compiled(step, dynamic=False, options={"cpp.vec_isa_ok": True} if vectors else None))

    def guarded(state: State, data: Any) -> tuple[State, Any]:
        with torch.compiler.set_stance("fail_on_recompile"):
            return run(state, data)

    return Steps(held.load, held.start, guarded, lambda data: held.stages(run, data), before=1, one_state=True)


def cuda_graph(step: Step, state: State) -> Steps:
    """Return the loop that records the step as a CUDA graph and replays it.

    Raises:
        NotImplementedError: The device is not a GPU.
    """
    if not runtime.from_numpy(np.zeros(())).is_cuda:
        raise NotImplementedError("CUDA graphs need a GPU")
    return recorded(step, state, _record)


def recorded(step: Step, state: State, record: Callable[[Callable[[], None]], Callable[[], None]]) -> Steps:
    """Return the loop that records the step on tensors that stay, and replays it.

    Args:
        step: The user's step.
        state: Its initial state.
        record: record(advance) returns the function that does what advance() does: `_record`, or itself in a test.
    """
    held = _Held(step, state)
    replays: list[tuple[Batch, Tensor, Callable[[], None]]] = []

    def prepare(state: State, batch: Batch) -> tuple[Batch, Tensor, Callable[[], None]]:
        own = _map(torch.clone, batch)
        loss = torch.zeros_like(step(copy.deepcopy(state), own)[1].detach())

        def advance() -> None:
            after, value = step(state, own)
            with torch.no_grad():
                loss.copy_(value)
                _put(state, after)

        return own, loss, record(advance)

    def run(state: State, data: Any) -> tuple[State, Tensor]:
        if not replays:
            replays.append(prepare(state, data[0]))
            held.start()  # recording has made steps
        ((own, loss, replay),) = replays
        losses = []
        for batch in data:
            with torch.no_grad():
                _put(own, batch)
            replay()
            losses.append(loss.clone())
        return state, torch.stack(losses)

    return Steps(held.load, held.start, run, lambda data: held.stages(run, data), before=1, one_state=True)


class _Held:
    """One state that is set back in place to what it was after the first step.

    Most optimizers of torch.optim make their buffers in the first step. It is made as given, and not timed.
    """

    def __init__(self, step: Step, state: State) -> None:
        self._step = step
        self._initial = state
        self._first: Batch = None
        self._state: State = None
        self._pairs: Pairs = []

    def load(self, batches: Sequence[Batch]) -> Any:
        """Keep the first batch for the step that is not timed; return the others."""
        self._first, *rest = _load(batches)
        return rest

    def start(self) -> State:
        """Return the state, set back.

        Raises:
            NotImplementedError: It cannot be copied.
        """
        torch.manual_seed(SEED)
        if not self._pairs:
            after, _ = self._step(copy.deepcopy(self._initial), self._first)
            try:
                self._state, self._pairs = _copied(after)
            except RuntimeError as error:
                raise NotImplementedError(f"the state cannot be copied after a step: {_first_line(error)}") from None
        with torch.no_grad():
            for before, tensor in self._pairs:
                tensor.copy_(before)
        return self._state

    def stages(self, run: Callable[[State, Any], tuple[State, Any]], data: Any) -> Iterator[str]:
        """Compile by two runs, which must make the same steps: what is no tensor is not set back.

        Raises:
            NotImplementedError: They differ, or the step cannot be compiled.
        """
        try:
            first, second = (torch.stack([_plain(x) for x in run(self.start(), data)[1]]) for _ in range(2))
        except NotImplementedError:
            raise
        except Exception as error:  # of whatever the user's step does
            raise NotImplementedError(
                f"the step cannot be compiled: {type(error).__name__}: {_first_line(error)}"
            ) from None
        if not torch.equal(first, second):
            raise NotImplementedError(
                "the state cannot be set back in place: it holds more than tensors, such as a schedule's count"
            )
        runtime.wait(None)
        yield "compile"


def _record(advance: Callable[[], None]) -> Callable[[], None]:
    """Record a step as a CUDA graph; return the function that replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # the first calls make handles, plans and kernels, which cannot be recorded
        for _ in range(3):
            advance()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        advance()
    return graph.replay


def _loop(step: Step) -> Callable[[State, Any], tuple[State, list[Tensor]]]:
    def run(state: State, data: Any) -> tuple[State, list[Tensor]]:
        losses = []
        for batch in data:
            state, loss = step(state, batch)
            losses.append(_plain(loss))
        return state, losses

    return run


def _load(batches: Sequence[Batch]) -> list[Batch]:
    return [_map(runtime.from_numpy, batch) for batch in batches]


def _copied(state: State) -> tuple[State, Pairs]:
    """Return a deep copy, and each tensor in the state with its copy."""
    memo: dict[int, Any] = {}
    copied = copy.deepcopy(state, memo)
    # `deepcopy` keeps a list of all that it copied in its memo, under the memo's own number.
    originals = memo.get(id(memo), [])
    return copied, [(x, memo[id(x)]) for x in originals if isinstance(x, Tensor)]


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return a batch with the function applied to each leaf."""
    if isinstance(tree, Mapping):
        return {name: _map(function, node) for name, node in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_map(function, node) for node in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(_map(function, node) for node in tree)
    return function(tree)


def _put(old: Any, new: Any) -> None:
    """Write the tensors of `new` into those of `old`, where they are others."""
    if old is new:
        return
    if isinstance(old, Tensor):
        old.copy_(new)
    elif isinstance(old, Mapping):
        for name, node in old.items():
            _put(node, new[name])
    elif isinstance(old, list | tuple):
        for node, other in zip(old, new, strict=True):
            _put(node, other)


def _plain(loss: Any) -> Tensor:
    return loss.detach() if isinstance(loss, Tensor) else torch.as_tensor(loss)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
