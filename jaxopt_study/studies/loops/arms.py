"""The arms of the ladder and of the growth curves: ways to loop, by the names of the backends' functions."""

from __future__ import annotations

from dataclasses import dataclass

RUNS = 64
"""Networks that are trained at once, or in turn."""

WHOLE_RUN = 10**9
"""As many steps as the plan's epochs have."""

BY_PROCESS = frozenset({"operator_by_operator"})
"""Arms whose time is another in another process, by more than their turns say: 8.4 to 10.3 ms a step in 33 processes on
one machine at its usual pace, while the turns of each have a spread of 5 %."""


@dataclass(frozen=True)
class Arm:
    """A way to loop.

    Attributes:
        function: The backend's function that makes the loop.
        words: What a reader is told.
        steps: Steps in a lap: enough that what a run costs beside them is little.
        module: The backend's module that has the function.
        takes: What it takes: the backend's `optimizer`, a `pure` one of torch_reference.functional, a `folded` one, which
            is Adam alone, or the `name`.
        network: The function of the backend's `models` that makes the network.
        sweep: The function of `sweep` that trains `RUNS` networks with the loop, if any.
        cpu_only: Whether it is a native function, as XLA makes of a loop on a CPU alone.
        full: Whether only the profile `full` has it, since it takes most of a minute to compile.
        simpler: The arm of the same framework that is one simpler: this one must make up for compiling longer.
    """

    function: str
    words: str
    steps: int
    module: str = "loops"
    takes: str = "optimizer"
    network: str = "network"
    sweep: str | None = None
    cpu_only: bool = False
    full: bool = False
    simpler: str | None = None

    @property
    def runs(self) -> int:
        """How many networks are trained in a lap."""
        return RUNS if self.sweep else 1


ARMS: dict[str, dict[str, Arm]] = {
    "jax": {
        "operator_by_operator": Arm("operator_by_operator", "no jit", 10),
        "nnx_jitted": Arm("nnx_jitted", "nnx.jit of the step", 56, simpler="operator_by_operator"),
        "jitted": Arm("jitted", "jit of the step", 448, simpler="operator_by_operator"),
        "donated": Arm("donated", "jit of the step, state donated", 448, simpler="jitted"),
        "epoch_scan": Arm("scan", "an epoch in lax.scan", 898, simpler="donated"),
        "scan": Arm("scan", "the run in lax.scan", WHOLE_RUN, simpler="donated"),
        "unrolled_scan": Arm("unrolled_scan", "the run in lax.scan, unroll=4", WHOLE_RUN, simpler="scan"),
        "flat_scan": Arm("flat_scan", "the run in lax.scan, one vector", WHOLE_RUN, simpler="scan"),
        "native_scan": Arm("native_scan", "the run in one native function", WHOLE_RUN, cpu_only=True, simpler="scan"),
        "folded_scan": Arm(
            "native_scan",
            "the same, Adam's corrections folded",
            WHOLE_RUN,
            takes="folded",
            cpu_only=True,
            simpler="native_scan",
        ),
        "many": Arm("scan", f"{RUNS} runs at once by vmap, each", 898, sweep="many", simpler="scan"),
        "in_turn": Arm(
            "native_scan",
            f"{RUNS} runs in turn in one program, each",
            898,
            sweep="in_turn",
            cpu_only=True,
            simpler="native_scan",
        ),
        "folded_in_turn": Arm(
            "native_scan",
            f"the same {RUNS}, Adam's corrections folded, each",
            898,
            takes="folded",
            sweep="in_turn",
            cpu_only=True,
            simpler="folded_scan",
        ),
    },
    "torch": {
        "functional": Arm("functional", "torch.func step", 56, "compiled_loops", "pure"),
        "notebook": Arm("notebook", "the notebook's loop", 56),
        "prepared": Arm("prepared", "rows prepared, no .item()", 56, simpler="notebook"),
        "foreach": Arm("foreach", "rows prepared, foreach", 56, simpler="prepared"),
        "fused": Arm("fused", "rows prepared, fused", 56, simpler="prepared"),
        "compiled_parts": Arm(
            "compiled_parts", "model and optimizer compiled", 56, "compiled_loops", simpler="prepared"
        ),
        "compiled": Arm("compiled", "torch.compile of the step", 112, "compiled_loops", "pure", simpler="functional"),
        "compiled_four": Arm(
            "compiled_four", "torch.compile of 4 steps", 448, "compiled_loops", "pure", simpler="compiled"
        ),
        "compiled_thirty_two": Arm(
            "compiled_thirty_two",
            "torch.compile of 32 steps",
            448,
            "compiled_loops",
            "pure",
            full=True,
            simpler="compiled_four",
        ),
        "cuda_graph": Arm("cuda_graph", "CUDA graph of the step", 448, "compiled_loops", "pure", simpler="functional"),
        "compiled_graph": Arm(
            "compiled_graph", "CUDA graph of the compiled step", 448, "compiled_loops", "pure", simpler="compiled"
        ),
    },
    "c": {
        "c_strict": Arm("c_strict", "a loop in C", WHOLE_RUN, takes="name"),
        "c_fast_math": Arm("c_fast_math", "a loop in C, -ffast-math -mno-recip", WHOLE_RUN, takes="name"),
        "c_apart": Arm("c_apart", "the same in C, each array in a loop of its own", WHOLE_RUN, takes="name"),
    },
}

SHORT = {"jax": ("donated", "scan", "native_scan"), "torch": ("notebook",), "c": ("c_fast_math",)}
"""The main job's ladder."""

_C = ("c_strict", "c_fast_math", "c_apart")
OTHERS: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": {"jax": ("scan", "native_scan", "many", "in_turn"), "torch": ("notebook", "fused"), "c": _C},
    "gpu": {"jax": ("scan", "unrolled_scan", "many"), "torch": ("notebook", "fused", "compiled_graph"), "c": _C},
}
"""The ladder of the optimizers after the first, by device: the loops that matter."""

LIMIT = "c_fast_math"
REFERENCE = "notebook"

# The growth curves: each framework's usual arm, and by device those of which the quickest is its best.
USUAL = {"jax": "donated", "torch": "prepared"}
BEST: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": {"jax": ("scan", "native_scan", "transposing_scan"), "torch": ("fused", "compiled", "compiled_onednn")},
    "gpu": {"jax": ("scan", "unrolled_scan"), "torch": ("fused", "cuda_graph", "compiled_graph")},
}
_ON_CURVES_ALONE = {
    "jax": {
        "transposing_scan": Arm(
            "scan", "the run in lax.scan, transposes written out", WHOLE_RUN, network="transposing_network"
        )
    },
    "torch": {
        "compiled_onednn": Arm(
            "compiled_parts",
            "model and optimizer compiled, products by oneDNN",
            56,
            "compiled_loops",
            network="onednn_network",
        )
    },
}
GROWTH: dict[str, dict[str, Arm]] = {
    f: {name: (ARMS[f] | alone)[name] for name in (USUAL[f], *BEST["cpu"][f], *BEST["gpu"][f])}
    for f, alone in _ON_CURVES_ALONE.items()
}


def caption(framework: str, name: str) -> str:
    """Return what a reader is told of an arm of the ladder or of the growth curves."""
    return (ARMS[framework].get(name) or GROWTH[framework][name]).words


@dataclass(frozen=True)
class Size:
    """A network and a batch on the growth curves."""

    widths: tuple[int, ...]
    batch: int

    @property
    def flops(self) -> int:
        """Floating point operations of a step's model: forward, and backward to kernels and to all but the inputs.

        Each is 2 x batch x inputs x outputs for a layer; biases, softmax and optimizer are left out.
        """
        products = [a * b for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return 2 * self.batch * (3 * sum(products) - products[0])

    @property
    def parameters(self) -> int:
        """How many parameters the network has."""
        return sum((a + 1) * b for a, b in zip(self.widths, self.widths[1:], strict=False))

    def steps(self, device: str) -> int:
        """Return the steps in a lap: 256, or as many as `LAP` has FLOPs for.

        At least three: the loss after one step does not depend on Adam's moments, which the first step cancels; that
        after two does. And enough that the calls with which a lap begins are little beside them: at 21 MFLOP on a
        Zen 4 `scan` takes 314 us a step where there are 4, 290 where 16, 283 where 64. On a GPU such calls cost more
        and steps less: of three steps of 83 MFLOP one took 165 us, of 77 of 1.3 MFLOP 33 (H200).
        """
        flops, fewest = LAP[device]
        return int(min(256, max(fewest, flops // self.flops)))


LAP = {"cpu": (4e8, 3), "gpu": (2e10, 8)}
"""FLOPs of a lap's steps, and the fewest of them: milliseconds of work. What holds them down is the formula in float64
that they are held to: up to 1.6 s on two cores, and 6.7 for the eight steps of the largest size of a GPU."""

# What grows -> the sizes, of which profile default takes every other one, the largest too. The last curve is where
# products rule.
CURVES: dict[str, tuple[Size, ...]] = {
    "batch": tuple(Size((64, 256, 10), batch) for batch in (1, 4, 16, 64, 256, 512, 1024)),
    "width": tuple(Size((64, width, 10), 256) for width in (1, 4, 16, 64, 256, 1024, 4096)),
    "depth": tuple(Size((64, *[64] * depth, 10), 32) for depth in (1, 2, 4, 6, 8)),
    "work": (Size((64, 1024, 1024, 10), 1024),),
}
SMOKE_CURVES: dict[str, tuple[Size, ...]] = {"batch": (Size((64, 32, 10), 1), Size((64, 32, 10), 64))}


GPU_WORK = Size((64, 2048, 2048, 10), 2048)
"""What a GPU needs for its arithmetic to rule."""


def curves(profile: str, device: str) -> dict[str, tuple[Size, ...]]:
    """Return the growth curves of a profile."""
    if profile == "smoke":
        return SMOKE_CURVES
    every = CURVES | ({"work": (*CURVES["work"], GPU_WORK)} if device == "gpu" else {})
    return every if profile == "full" else {name: sizes[::-2][::-1] for name, sizes in every.items()}
