"""The networks and batches of the growth curves, and which methods are tried at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxopt_study.bench.case import Plan
from jaxopt_study.data import problem

INPUTS, CLASSES = 64, 10
"""Of every network on the curves."""


@dataclass(frozen=True)
class Size:
    """A network and a batch."""

    widths: tuple[int, ...]
    batch: int

    @property
    def name(self) -> str:
        """The size in words: `64-256-10 x 4`."""
        return problem.name_of(self.widths, self.batch)

    @property
    def flops(self) -> int:
        """Floating point operations of a step's model: forward, and backward to kernels and to all but the inputs.

        Each is 2 x batch x inputs x outputs for a layer; biases, softmax and optimizer do not count.
        """
        products = [a * b for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return 2 * self.batch * (3 * sum(products) - products[0])

    @property
    def parameters(self) -> int:
        """How many parameters the network has."""
        return problem.size_of(self.name)

    def steps(self, device: str) -> int:
        """Return the steps in a lap: 256, or as many as `LAP` has FLOPs for.

        At least three: the loss after one step does not depend on Adam's moments, which the first step cancels; that
        after two does. And enough that the calls with which a lap begins are little beside them: at 21 MFLOP on a
        Zen 4 `scan` takes 314 us per step where there are 4, 290 where 16, 283 where 64. On a GPU such calls cost more
        and steps less: of three steps of 83 MFLOP one took 165 us, of 77 of 1.3 MFLOP 33 (H200).
        """
        flops, fewest = LAP[device]
        return int(min(256, max(fewest, flops // self.flops)))


LAP = {"cpu": (4e8, 3), "gpu": (2e10, 8)}
"""FLOPs of a lap's steps, and the fewest of them: milliseconds of work. With more the formula in float64 would take too
long: it takes up to 1.6 s on two cores, and 6.7 s for the eight steps of the largest size of a GPU."""

# What grows -> the sizes, of which profile default takes every other one, the largest too. In the last curve products
# take most of a step.
CURVES: dict[str, tuple[Size, ...]] = {
    "batch": tuple(Size((64, 256, 10), batch) for batch in (1, 4, 16, 64, 256, 512, 1024)),
    "width": tuple(Size((64, width, 10), 256) for width in (1, 4, 16, 64, 256, 1024, 4096)),
    "depth": tuple(Size((64, *[64] * depth, 10), 32) for depth in (1, 2, 4, 6, 8)),
    "work": (Size((64, 1024, 1024, 10), 1024),),
}
SMOKE_CURVES: dict[str, tuple[Size, ...]] = {"batch": (Size((64, 32, 10), 1), Size((64, 32, 10), 64))}
GPU_WORK = Size((64, 2048, 2048, 10), 2048)
"""What a GPU needs for products to take most of a step."""

OVERVIEW_WORK = {"cpu": Size((64, 1024, 1024, 10), 256), "gpu": GPU_WORK}
"""The main job's only size, by device: on a CPU a step takes 30 ms, and products are most of it."""

COMPILED_SIZES = {
    "smoke": frozenset(),
    "default": frozenset({CURVES["batch"][0], CURVES["width"][-1], CURVES["work"][-1]}),
    "full": frozenset(size for sizes in CURVES.values() for size in sizes),
}
"""By profile, the sizes at which a method is tried that takes seconds to compile at each size."""


def curves(profile: str, device: str, overview: bool = False) -> dict[str, tuple[Size, ...]]:
    """Return the growth curves of a profile: what grows -> sizes, in the order in which they grow.

    Args:
        profile: One of `PROFILES`.
        device: The device, as what is much work depends on it.
        overview: Whether this is the main job, which has one size, where there is much work.
    """
    if profile == "smoke":
        return {"batch": SMOKE_CURVES["batch"][-1:]} if overview else SMOKE_CURVES
    if overview:
        return {"work": (OVERVIEW_WORK[device],)}
    every = CURVES | ({"work": (*CURVES["work"], GPU_WORK)} if device == "gpu" else {})
    return every if profile == "full" else {name: sizes[::-2][::-1] for name, sizes in every.items()}


def sizes(plan: Plan) -> dict[str, Size]:
    """Return the sizes on the growth curves by their names."""
    return {
        size.name: size for members in curves(plan.profile, plan.device, plan.overview).values() for size in members
    }


def _at_all(size: Size) -> bool:
    del size
    return True


def _one_row(size: Size) -> bool:
    """Where there is one row: picking the logit of each of many is a scatter, which one function cannot have."""
    return size.batch == 1


def _several_rows(size: Size) -> bool:
    """Where there are more: a transpose written out was worth its time on a CPU at each of these sizes."""
    return size.batch > 1


def _onednn_pays(size: Size) -> bool:
    """On a Zen 5 a step with oneDNN's products takes 1.22 of the time with `nn.Linear` at 21 MFLOP (64-256-10 x 256).

    It takes 0.79 at 83 MFLOP, and 0.59 at 1,693. Compiled too, it takes 1.08, 0.67 and 0.66.
    """
    return size.flops > 2e7


def _unrolling_pays(size: Size) -> bool:
    """On an H200 four steps per iteration take 0.82 and 0.96 of the scan's time at 0.08 MFLOP, 1.01 at 0.65.

    They take 1.02 at 1.3 and up to 1.31 beyond, and XLA tunes each product anew for them: 1 to 11 s per size.
    """
    return size.flops < 5e5


@dataclass(frozen=True)
class Candidate:
    """A method that may be the fastest of its framework.

    Attributes:
        method: Its name in `methods.METHODS`.
        pays: Whether it may be the fastest at a size.
        in_full: Whether profile full tries it at the other sizes too.
        compiles: Whether it takes seconds to compile, so that it is tried at `COMPILED_SIZES` alone.
    """

    method: str
    pays: Callable[[Size], bool] = _at_all
    in_full: bool = False
    compiles: bool = False


USUAL = {"jax": "donated", "torch": "prepared"}
"""Each framework's usual method."""

CANDIDATES: dict[str, dict[str, tuple[Candidate, ...]]] = {
    "cpu": {
        "jax": (
            Candidate("scan", _one_row, in_full=True),
            Candidate("native_scan", _one_row),
            Candidate("transposing_scan", _several_rows),
        ),
        "torch": (
            Candidate("fused"),
            Candidate("fused_onednn", _onednn_pays),
            Candidate("compiled", compiles=True),
            Candidate("compiled_onednn", _onednn_pays, compiles=True),
        ),
    },
    "gpu": {
        "jax": (Candidate("scan"), Candidate("unrolled_scan", _unrolling_pays)),
        "torch": (Candidate("fused"), Candidate("cuda_graph"), Candidate("compiled_graph")),
    },
}
"""Device -> framework -> the methods of which the fastest is compared with the other framework's."""


def candidates(framework: str, size: Size, plan: Plan) -> list[str]:
    """Return the methods that may be the fastest at a size, whether they are tried there or not."""
    return [c.method for c in CANDIDATES[plan.device][framework] if c.pays(size)]


def tried(framework: str, size: Size, plan: Plan) -> list[str]:
    """Return the methods that are tried at a size, but for the usual one."""
    return [
        c.method
        for c in CANDIDATES[plan.device][framework]
        if (c.pays(size) or (c.in_full and plan.profile == "full"))
        and (size in COMPILED_SIZES[plan.profile] or not c.compiles)
    ]
