"""What a run was asked for, and the cases that it measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """How much is measured.

    Attributes:
        epochs: Epochs of training, where the command line says nothing else.
        repeats: Samples per case, likewise. With 15 epochs, 13 samples and the two laps before them (the first call and
            the warm-up) are one whole run of the notebook's loop.
        initializations: How many initial parameters the spread is taken over.
    """

    epochs: int
    repeats: int
    initializations: int


PROFILES = {
    "smoke": Profile(epochs=2, repeats=4, initializations=32),
    "default": Profile(epochs=15, repeats=13, initializations=32),
    "full": Profile(epochs=15, repeats=58, initializations=500),
}


@dataclass(frozen=True)
class Plan:
    """What a run was asked for, checked and with every default filled in.

    Attributes:
        overview: Whether this is the main job, where a study shows a short table in seconds; asked for by name, it
            shows all that it has.
        batch_size: The rows of a training step.
        native: Whether XLA on a CPU can make one native function of the training steps.
        linear: Whether a softmax regression is trained: one linear layer.
        built_in: The built-in workload that brings the rows, where a user chose the model or the loss for them.
        model: Of a user's own choice, the network, as the command line names it.
        loss: Of a user's own choice, the loss, as the plugin names it.
        plugin: The user's plugin, or nothing.
        plugin_digest: The digest of its file.
        standardized: Whether a user's own data are standardized.
        data: What a reader is told of a user's own data; nothing for a built-in workload.
        experiment: The file with a user's steps, or nothing.
        experiment_digest: The digest of its content.
    """

    studies: tuple[str, ...]
    overview: bool
    workload: str
    optimizers: tuple[str, ...]
    frameworks: tuple[str, ...]
    profile: str
    dtype: str
    device: str
    threads: int
    seed: int
    epochs: int
    learning_rate: float
    repeats: int
    batch_size: int = 1
    native: bool = True
    linear: bool = True
    built_in: str = ""
    model: str = ""
    loss: str = ""
    plugin: str = ""
    plugin_digest: str = ""
    standardized: bool = False
    data: tuple[str, ...] = ()
    experiment: str = ""
    experiment_digest: str = ""

    @property
    def rows_per_step(self) -> str:
        """How many rows a training step sees, in words."""
        return "one row per step" if self.batch_size == 1 else f"{self.batch_size} rows per step"

    @property
    def initializations(self) -> int:
        """How many initial parameters the spread is taken over."""
        return PROFILES[self.profile].initializations


@dataclass(frozen=True)
class Case:
    """One row to measure: what is computed, by which framework, in which way."""

    study: str
    experiment: str
    subject: str
    framework: str
    method: str

    @property
    def key(self) -> str:
        """The case's name in records and messages; a study that is one experiment is not named twice."""
        names = (self.study, self.experiment) if self.study != self.experiment else (self.study,)
        return "/".join((*names, self.subject, self.framework, self.method))


@dataclass(frozen=True)
class Group:
    """Cases that are measured together: each once in every round, so that their times can be compared.

    Attributes:
        repeats: Rounds, in each of which every case gives one sample; 0 where a run takes so long that its first call,
            which compiles nothing, is all.
        fresh: Whether each case has a process of its own, one after the other, so that its peak memory is its own.
        processes: How many processes of each framework share the rounds, one after the other. Code and data lie at
            other addresses in each process; what that changes is then part of the spread and the interval.
        together: Whether the frameworks compute at the same time, each on its own cores if there are enough. For
            values alone: the records have no samples.
        decides: Whether the run is refused, and nothing written, where one of the cases is not measured.
        distributed: Whether each case is a task of its own, which any process of `pools` may take, here or on another
            machine. For values alone: the records have no samples. What a case needs of other records must have been
            measured before the first of these groups.
    """

    cases: tuple[Case, ...]
    repeats: int
    fresh: bool = False
    processes: int = 1
    together: bool = False
    decides: bool = False
    distributed: bool = False

    @property
    def samples(self) -> int:
        """Samples of all cases together; where there are no rounds, the first call is one."""
        return len(self.cases) * max(1, self.repeats)
