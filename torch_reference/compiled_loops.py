"""Ways to loop over pure training steps, compiled or not. Each returns a `training.Loop`.

After some recompilations `torch.compile` silently runs a function uncompiled. The compiled loops therefore run under
`fail_on_recompile`. For a step on one row classes are one-hot, because with integer targets inductor fails there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count as count_from
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torch_reference import models, runtime
from torch_reference.functional import Pure
from torch_reference.loops import Order, batches, set_params, trained
from torch_reference.models import OutputLoss
from torch_reference.optimizers import Optimizer
from torch_reference.training import Batch, Loop, Params, State

__all__ = [
    "compiled",
    "compiled_four",
    "compiled_graph",
    "compiled_parts",
    "compiled_thirty_two",
    "cuda_graph",
    "functional",
    "pure_steps",
    "recorded_loop",
]


_numbers = count_from(0)


class PureState(NamedTuple):
    """The parameters and the optimizer's state; nothing is changed in place."""

    params: Params
    optimizer: Any


class Tape(NamedTuple):
    """The tensors that a recorded step reads and writes. A CUDA graph keeps their addresses, so they must stay."""

    state: PureState
    data: Batch
    order: Tensor
    place: Tensor
    losses: Tensor


def functional(model: nn.Module, optimizer: Pure, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the loop over a pure step made by `torch.func`, not compiled."""
    return _pure_loop(model, optimizer, pure_steps(model, optimizer, 1, output_loss), 1, compiles=False)


def compiled(model: nn.Module, optimizer: Pure, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the loop over the step of `functional` under `torch.compile`: one call for each step.

    Raises:
        NotImplementedError: Nothing would be compiled; see `runtime.compiled`.
    """
    return _compiled_steps(model, optimizer, 1, output_loss)


def compiled_four(model: nn.Module, optimizer: Pure, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the loop with four steps, unrolled, in one compiled function.

    Raises:
        NotImplementedError: Nothing would be compiled; see `runtime.compiled`.
    """
    return _compiled_steps(model, optimizer, 4, output_loss)


def compiled_thirty_two(model: nn.Module, optimizer: Pure, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the loop with thirty-two steps in one compiled function, which takes most of a minute to compile.

    Raises:
        NotImplementedError: Nothing would be compiled; see `runtime.compiled`.
    """
    return _compiled_steps(model, optimizer, 32, output_loss)


def compiled_parts(model: nn.Module, optimizer: Optimizer, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the usual loop with two compiled functions: the model's loss and the optimizer's step.

    There is one state only, because a compiled step is bound to its optimizer's tensors. `init` returns the parameters,
    and `run` copies them into that state; this takes 0.03 ms of a lap of 30.

    Raises:
        NotImplementedError: Nothing would be compiled; see `runtime.compiled`.
    """

    def loss(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return output_loss(net(inputs), targets)

    compiled_loss = runtime.compiled(_own_code(loss), fullgraph=True, dynamic=False)
    held: list[tuple[State, Callable[[], None]]] = []

    def begin(params: Params) -> State:
        """Return the one state with these parameters and with buffers of zero."""
        if not held:
            state = trained(model, optimizer, params)
            held.append((state, runtime.compiled(_own_code(lambda: state.optimizer.step()), dynamic=False)))
        ((state, _),) = held
        set_params(state.model, params)
        for buffers in state.optimizer.state.values():
            for buffer in buffers.values():
                buffer.zero_()
        return state

    def step(batch: Batch) -> Tensor:
        ((state, update),) = held
        state.optimizer.zero_grad()
        value = compiled_loss(state.model, *batch)
        value.backward()
        update()
        return value.detach()

    def run(params: Params, data: Batch, order: Order) -> tuple[State, Tensor]:
        with torch.compiler.set_stance("fail_on_recompile"):
            state = begin(params)
            return state, torch.stack([step(batch) for batch in batches(_prepared(data, order, model), order)])

    def stages(params: Params, data: Batch, order: Order) -> Iterator[str]:
        begin(params)
        for _ in range(2):  # SGD's momentum starts as the first gradient, and is compiled anew once it is there
            step(*batches(_prepared(data, order, model), order[:1]))
        yield "compile"

    return Loop(runtime.from_numpy, dict, run, stages)


def cuda_graph(model: nn.Module, optimizer: Pure, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the loop that records one step as a CUDA graph and replays it, without calls of operators from Python.

    Raises:
        NotImplementedError: The device is not a GPU.
    """
    _need_gpu()
    return recorded_loop(pure_steps(model, optimizer, 1, output_loss), model, optimizer)


def compiled_graph(model: nn.Module, optimizer: Pure, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the loop that records the step under `torch.compile` as a CUDA graph, which has few kernels.

    Raises:
        NotImplementedError: The device is not a GPU, or nothing would be compiled; see `runtime.compiled`.
    """
    _need_gpu()
    one = runtime.compiled(_own_code(pure_steps(model, optimizer, 1, output_loss)), fullgraph=True, dynamic=False)
    return recorded_loop(one, model, optimizer)


def _advance(one: Callable[[PureState, Batch], tuple[PureState, Tensor]]) -> Callable[[Tape], None]:
    """Return the step that reads its row from the tape and writes state and loss to it.

    The writes are outside the compiled function: compiled by inductor of torch 2.13, they made Adam train wrongly.
    """

    def advance(tape: Tape) -> None:
        rows = tape.order[tape.place]
        state, loss = one(tape.state, (tape.data[0][rows], tape.data[1][rows]))
        _copy(tape.state, state)
        tape.losses.index_copy_(0, tape.place, loss)
        tape.place.add_(1)

    return advance


def _record(advance: Callable[[Tape], None], tape: Tape) -> Callable[[], None]:
    """Record one step on the tape as a CUDA graph; return the function that replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # the first calls make handles, plans and kernels, which cannot be recorded
        for _ in range(2):
            tape.place.zero_()
            advance(tape)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        advance(tape)
    return graph.replay


def recorded_loop(
    one: Callable[[PureState, Batch], tuple[PureState, Tensor]],
    model: nn.Module,
    optimizer: Pure,
    record: Callable[[Callable[[Tape], None], Tape], Callable[[], None]] = _record,
) -> Loop:
    """Return the loop that records a step on a tape and replays it; each set of shapes is recorded once.

    Args:
        one: The pure step of `pure_steps` with a count of 1, compiled or not.
        model: The network of the step.
        optimizer: The optimizer of the step.
        record: record(advance, tape) returns the function that does what advance(tape) does; by a CUDA graph if not
            given.
    """
    advance = _advance(one)
    recorded: dict[Any, tuple[Tape, Callable[[], None]]] = {}

    def prepare(state: PureState, data: Batch, order: Order) -> tuple[Tape, Callable[[], None]]:
        """Return the tape with the data of this run, at its start, and the function that makes a step."""
        data, rows = _prepared(data, order, model), torch.as_tensor(order, device=data[0].device)
        shapes = rows.shape, *(array.shape for array in data)
        if shapes not in recorded:
            held = (data[0].clone(), data[1].clone())
            place, losses = rows.new_zeros(1), data[0].new_zeros(len(rows), dtype=torch.get_default_dtype())
            tape = Tape(_map(torch.clone, state), held, rows.clone(), place, losses)
            recorded[shapes] = tape, record(advance, tape)
        tape, replay = recorded[shapes]
        _copy(tape.state, state)
        for old, new in zip((*tape.data, tape.order), (*data, rows), strict=True):
            old.copy_(new)
        tape.place.zero_()
        return tape, replay

    def run(state: PureState, data: Batch, order: Order) -> tuple[PureState, Tensor]:
        with torch.no_grad():
            tape, replay = prepare(state, data, order)
            for _ in range(len(order)):
                replay()
            return _map(torch.clone, tape.state), tape.losses.clone()

    def stages(state: PureState, data: Batch, order: Order) -> Iterator[str]:
        with torch.no_grad():
            runtime.wait(prepare(state, data, order))
        yield "compile"

    return Loop(runtime.from_numpy, _init(optimizer), run, stages)


def pure_steps(
    model: nn.Module, optimizer: Pure, count: int, output_loss: OutputLoss = models.cross_entropy
) -> Callable[[PureState, Batch], tuple[PureState, Tensor]]:
    """Return the pure function of a state and `count` batches that makes `count` steps."""
    outputs = models.predict(model)

    def loss(params: Params, inputs: Tensor, targets: Tensor) -> Tensor:
        return output_loss(outputs(params, inputs), targets)

    def steps(state: PureState, window: Batch) -> tuple[PureState, Tensor]:
        losses = []
        for number in range(count):
            inputs, targets = (array[number] for array in window)
            gradient, value = torch.func.grad_and_value(loss)(dict(state.params), inputs, targets)
            state = PureState(*optimizer.update(gradient, state.optimizer, dict(state.params)))
            losses.append(value)
        return state, torch.stack(losses)

    return steps


def _compiled_steps(model: nn.Module, optimizer: Pure, count: int, output_loss: OutputLoss) -> Loop:
    pure = pure_steps(model, optimizer, count, output_loss)
    steps = runtime.compiled(_own_code(pure), fullgraph=True, dynamic=False)
    return _pure_loop(model, optimizer, steps, count, compiles=True)


def _pure_loop(model: nn.Module, optimizer: Pure, steps: Any, count: int, compiles: bool) -> Loop:
    """Return the loop that calls `steps` on `count` batches at a time; the order's length is a multiple of `count`."""

    def run(state: PureState, data: Batch, order: Order) -> tuple[PureState, Tensor]:
        losses = []
        with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile" if compiles else "default"):
            for window in _windows(_prepared(data, order, model), order, count):
                state, values = steps(state, window)
                losses.append(values)
        return state, torch.cat(losses)

    def stages(state: PureState, data: Batch, order: Order) -> Iterator[str]:
        """Make two calls: the state that a step returns can have other strides than the first state."""
        windows = iter(_windows(_prepared(data, order, model), order, count))
        with torch.no_grad():
            state, _ = steps(state, next(windows))
            yield from runtime.compilation(steps, state, next(windows))

    return Loop(runtime.from_numpy, _init(optimizer), run, *([stages] if compiles else []))


def _own_code(function: Any) -> Any:
    """Give a function its own code object: torch.compile caches compiled code, and counts recompilations, by it."""
    function.__code__ = function.__code__.replace(co_name=f"steps_{next(_numbers)}")
    return function


def _init(optimizer: Pure) -> Callable[[Params], PureState]:
    return lambda params: PureState(dict(params), optimizer.init(dict(params)))


def _prepared(data: Batch, order: Order, model: nn.Module) -> Batch:
    """Return the data with one-hot targets, where they are classes and a step has one row without a batch axis."""
    inputs, targets = data
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1:]
    if np.ndim(order) > 1 or targets.is_floating_point() or not last or last[0].out_features == 1:
        return data
    return inputs, nn.functional.one_hot(targets, last[0].out_features).to(torch.get_default_dtype())


def _windows(data: Batch, order: Any, count: int) -> Iterable[Batch]:
    """Return the batches of `count` steps at a time.

    Raises:
        ValueError: The number of steps is not a multiple of `count`.
    """
    if len(order) % count:
        raise ValueError(f"{len(order)} steps are no multiple of {count}")
    return zip(*(array[order].split(count) for array in data), strict=True)


def _need_gpu() -> None:
    if not runtime.from_numpy(np.zeros(())).is_cuda:
        raise NotImplementedError("CUDA graphs need a GPU")


def _copy(old: PureState, new: PureState) -> None:
    for leaf, value in zip(_leaves(old), _leaves(new), strict=True):
        leaf.copy_(value)


def _leaves(state: PureState) -> list[Tensor]:
    count, buffers = state.optimizer
    return [*state.params.values(), count, *(leaf for leaves in buffers.values() for leaf in leaves)]


def _map(function: Callable[[Tensor], Tensor], state: PureState) -> PureState:
    count, buffers = state.optimizer
    return PureState(
        {name: function(leaf) for name, leaf in state.params.items()},
        (function(count), {name: tuple(map(function, leaves)) for name, leaves in buffers.items()}),
    )
