"""The limit of a loop: the notebook's training in C, compiled at run time for this processor.

Without `-ffast-math` the compiler keeps the order of operations, as XLA does. With it the compiler sums in the fastest
order.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.backends.numpy import runtime
from jaxopt_study.backends.numpy.runtime import Array, ParameterTree

OPTIMIZERS = ("adam", "rmsprop", "sgd", "adagrad")
SOURCE = Path(__file__).with_name("loop.c")
STRICT = ("-O3", "-march=native", "-fno-math-errno")
FAST = (*STRICT, "-ffast-math", "-mno-recip")
"""Without `-mno-recip` gcc computes roots and quotients from approximations, which took 436 ns instead of 344."""


class State(NamedTuple):
    """Parameters in flax's layout, and the optimizer's two buffers, (2, parameters)."""

    params: ParameterTree
    buffers: Array


class Loop(NamedTuple):
    """A way to loop, with the fields of `training.Loop` in the other backends."""

    load: Callable[[Any], Any]
    init: Callable[[ParameterTree], State]
    run: Callable[[State, Any, Array], tuple[State, Array]]
    stages: Callable[[State, Any, Array], Iterator[str]]


def c_strict(optimizer: str, learning_rate: float) -> Loop:
    """Return the loop in C with the arithmetic of IEEE 754, in the order of the source."""
    return _c_loop(optimizer, learning_rate, STRICT)


def c_apart(optimizer: str, learning_rate: float) -> Loop:
    """Return the loop of `c_fast_math` in which a separate loop writes each of the optimizer's arrays.

    XLA on a CPU also makes one loop for each array, so this is the limit of XLA there. The processor then cannot
    compute the moments while it waits for roots and quotients.
    """
    return _c_loop(optimizer, learning_rate, FAST, separate=True)


def c_fast_math(optimizer: str, learning_rate: float) -> Loop:
    """Return the loop in C with `-ffast-math`, but with exact roots and quotients."""
    return _c_loop(optimizer, learning_rate, FAST)


def _c_loop(optimizer: str, learning_rate: float, flags: tuple[str, ...], separate: bool = False) -> Loop:
    """Return the loop compiled with these flags, for one linear layer and one row per step.

    Raises:
        NotImplementedError: There is no C compiler.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise NotImplementedError("the loop in C needs a C compiler: none of cc, gcc, clang is found")
    flags = tuple(flag for flag in flags if _accepts(compiler, flag))
    compiled: dict[tuple[int, int], Any] = {}

    def train(shape: tuple[int, ...], kind: Any) -> Any:
        """Return the compiled function for a kernel of this shape and type."""
        inputs, outputs = shape
        if (inputs, outputs) not in compiled:
            facts = {"REAL": {4: "float", 8: "double"}[kind.itemsize], "INPUTS": inputs, "OUTPUTS": outputs}
            compiled[inputs, outputs] = _compile(
                compiler, flags, facts | {"OPTIMIZER": OPTIMIZERS.index(optimizer), "SEPARATE": int(separate)}
            ).train
        return compiled[inputs, outputs]

    def init(params: ParameterTree) -> State:
        ((_, leaves),) = params.items()
        return State(params, np.zeros((2, leaves["kernel"].size + leaves["bias"].size), leaves["kernel"].dtype))

    def run(state: State, data: Any, order: Array) -> tuple[State, Array]:
        ((layer, leaves),) = state.params.items()
        kernel, bias = leaves["kernel"], leaves["bias"]
        vector = np.concatenate([kernel.T.ravel(), bias])
        buffers, losses = state.buffers.copy(), np.empty(len(order), kernel.dtype)
        inputs, targets, rows = np.ascontiguousarray(data[0]), data[1].astype(np.intp), order.astype(np.intp)
        train(kernel.shape, kernel.dtype)(
            *map(_pointer, (vector, *buffers, inputs, targets, rows)),
            ctypes.c_size_t(len(order)), ctypes.c_double(learning_rate), _pointer(losses),
        )  # fmt: skip
        trained = {"kernel": vector[: kernel.size].reshape(kernel.shape[::-1]).T, "bias": vector[kernel.size :]}
        return State({layer: trained}, buffers), losses

    def stages(state: State, data: Any, order: Array) -> Iterator[str]:
        del data, order
        ((_, leaves),) = state.params.items()
        train(leaves["kernel"].shape, leaves["kernel"].dtype)
        yield "compile"

    return Loop(runtime.from_numpy, init, run, stages)


@cache
def _accepts(compiler: str, flag: str) -> bool:
    """Say whether the compiler knows a flag: only gcc on x86 knows `-mno-recip`."""
    command = [compiler, flag, "-x", "c", "-E", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _compile(compiler: str, flags: tuple[str, ...], facts: dict[str, Any]) -> ctypes.CDLL:
    """Compile `loop.c` and load it; the library's file is deleted, its code stays in memory."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "loop.so"
        defined = [f"-D{name}={value}" for name, value in facts.items()]
        command = [compiler, *flags, "-std=c11", *defined, "-shared", "-fPIC", str(SOURCE), "-o", str(library), "-lm"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise RuntimeError(f"the C compiler failed: {(answer.stderr.strip().splitlines() or ['no message'])[0]}")
        return ctypes.CDLL(str(library))


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
