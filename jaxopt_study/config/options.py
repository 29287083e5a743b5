"""What a user can ask for: the options of the command line, and of `run(Config(...))` in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from jaxopt_study.studies.registry import NOTEBOOK

FRAMEWORKS = ("jax", "torch")
DTYPES = ("float32", "float64")
DEVICES = ("cpu", "gpu")
ENGINES = ("local", "dask", "ray")


def _whole(_hint: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; the library's own reading would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


def _path(_hint: Any, tokens: Sequence[Token]) -> Path:
    """Read a path; from Python, the same option takes arrays too."""
    return Path(tokens[0].value)


Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]
Folders = Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]
Whole = Annotated[int, Parameter(converter=_whole)]
Switch = Annotated[bool, Parameter(negative=())]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Config:
    """What to run, and how. Several names are separated by spaces or commas."""

    studies: Annotated[Names, Parameter(show_default=False)] = ()
    """The studies to run, each in full. Without this option the main job runs several in short. See --list."""
    optimizers: Names = NOTEBOOK
    """The optimizers to train with: see --list; a call in torch, "AdamW(weight_decay=0.1)"; or those of --plugin."""
    frameworks: Names = FRAMEWORKS
    """The frameworks to run: jax, torch or both."""
    workload: str = "digits-linear"
    """The data and the network that are trained. See --list."""
    data: Annotated[Any, Parameter(converter=_path)] = None
    """Your data instead: a .csv or .parquet file with --target, or a .npz file with X and y. In Python also (X, y)."""
    target: str | None = None
    """The column of --data to predict: classes (text, or whole numbers of at most 100 values) or numbers."""
    model: str | None = None
    """The network: linear (default for --data), mlp:64,32 (hidden widths), cnn:28x28 (image), or one of --plugin."""
    loss: str | None = None
    """A loss that --plugin registers. Default: cross-entropy for classes, squared error for numbers."""
    plugin: str | None = None
    """Your own models, losses and optimizers: a Python file or module that registers them. See docs/plugin.md."""
    standardize: Switch = False
    """Shift and scale each column of --data to mean 0 and deviation 1; the targets of a regression too."""
    batch_size: Annotated[int | None, Parameter(converter=_whole)] = None
    """The rows of a training step. Default: 1, as in the notebook; 32 with --data."""
    profile: Literal["smoke", "default", "full"] = "default"
    """How much is measured: smoke takes less, full several times as much as default."""
    dtype: Literal["float32", "float64"] = "float32"
    """The floating point type of all frameworks."""
    device: Literal["cpu", "gpu"] = "cpu"
    """The device to run on."""
    threads: Annotated[int | None, Parameter(converter=_whole)] = None
    """The number of CPU cores that a framework may use. Default: 1 on a CPU; all with a GPU, to feed it and compile."""
    seed: Whole = 0
    """The seed of the initial parameters."""
    epochs: Annotated[int | None, Parameter(converter=_whole)] = None
    """Epochs of training. Default: 15; 2 with --profile smoke."""
    learning_rate: float = 1e-3
    """The learning rate of every optimizer."""
    repeats: Annotated[int | None, Parameter(converter=_whole)] = None
    """Samples per case. Default: 13; 4 with --profile smoke, 58 with --profile full."""
    engine: Literal["local", "dask", "ray"] = "local"
    """Where the ranking's sweep runs: on this machine's cores, or on a cluster. See docs/ranking.md."""
    scheduler: str | None = None
    """The address of the scheduler for --engine dask, such as tcp://10.0.0.1:8786."""
    address: str | None = None
    """The address of the cluster for --engine ray, such as 10.0.0.1:6379; auto: the one of this machine."""
    experiment: Path | None = None
    """Your own training steps: a Python file with `jax_step`, `torch_step` or both. They are checked, then timed."""
    new_experiment: Path | None = None
    """Write a file for --experiment, ready to run, and exit."""
    out: Path | None = None
    """The folder to write, which must be new or empty. Default: runs/<date and time>; with --report, the run's own."""
    resume: Path | None = None
    """The folder of an interrupted run, which is finished. Give the options that it was started with."""
    report: Folders = ()
    """The folders of recorded runs; nothing is run. Of one, the report is drawn again. Several are set side by side."""
    against: Path | None = None
    """The folder of another run. This run is compared with it, case by case; what differs around them is listed."""
    fail_on_slower: float | None = None
    """Exit with status 1 if a case is slower than in --against, or in the first --report, by more than this percent."""
    export: Annotated[Names, Parameter(show_default=False)] = ()
    """More files to write: csv, parquet or latex (all tables, in the folder tables), pyperf (times, as pyperf.json)."""
    verbose: Switch = False
    """Show all tables in full, with what their columns mean, as the report has them."""
    json: Switch = False
    """Print the summary as JSON on standard output, and nothing else there."""
    list: Switch = False
    """List what can be run, and exit."""
