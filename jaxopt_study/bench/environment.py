"""Where a run was made: versions, machine, cores, environment variables. A figure means nothing without it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import psutil

from jaxopt_study import __version__
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import plain
from jaxopt_study.bench.timing import now, process_age

ENVIRONMENT = "environment.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy", "scipy", "scikit-learn", "pytorch-minimize",
            "sif2jax", "optimistix")  # fmt: skip
MOMENT = ("key", "started", "startup_seconds", "busy_percent", "import_seconds", "seconds_per_unit")

PREFIXES = (
    *("JAX_", "XLA_", "FLAX_", "TORCH", "PYTORCH_", "FUNCTORCH_", "ATEN_", "TRITON_"),
    # XLA reads these; others that begin with TF_ are Terraform's.
    *("TF_XLA_", "TF_GPU_", "TF_CUDNN_", "TF_CPP_", "TF_ENABLE_", "TF_FORCE_"),
    *("MKL_", "DNNL_", "ONEDNN_", "OMP_", "KMP_", "GOMP_", "OPENBLAS_", "GOTO_", "BLIS_", "NVPL_", "VECLIB_", "NPY_"),
    *("CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_"),
    *("PYTHON", "MALLOC_", "GLIBC_", "LD_"),
)
"""A variable that begins so can change what is computed, compiled or timed, and is recorded."""

COMPILERS = ("CC", "CXX")
"""Variables that are recorded, too."""

WITHOUT_EFFECT = (
    *("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONIOENCODING", "PYTHONUTF8"),
    *("PYTHONCOERCECLOCALE", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHON_COLORS", "PYTHON_HISTORY"),
    *("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),  # scikit-learn sets both in whatever process loads it
)
"""Variables that change how a process is loaded, reads and writes, and no measurement; they are not recorded."""

OF_MACHINE = ("PYTHON", "LD_", "CUDA_VISIBLE_DEVICES")
"""Variables that begin so say where things are on a machine."""

SECRETS = ("API_KEY", "TOKEN", "SECRET", "PASSWORD")
"""A variable whose name contains one of these is never recorded, because a report is shown to others."""

JAX_CACHE, TORCH_CACHE = "JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""Linux's flag of a processor -> the name of its vector instructions, the widest first."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

WORKERS_DEFAULTS = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "MALLOC_MMAP_THRESHOLD_": f"{2**25}",
    "MALLOC_TRIM_THRESHOLD_": f"{2**30}",
}
"""Variables of a worker's environment, unless the user sets them.

Without the first, JAX takes three quarters of a GPU, which all workers share. Without the others, glibc gives memory
back to the system after each array of a few megabytes: a step of PyTorch with 4,096 hidden units and 256 rows then took
9.5 ms instead of 5.4, with 1,040 page faults. (The first threshold is the largest that glibc chooses by itself.)
"""


def of_worker(threads: int) -> dict[str, str]:
    """Return the variables of a worker's environment: the user's, except for threads and caches.

    With a cache, a worker would find what another run compiled. PyTorch needs a folder for it: `process` makes an empty
    one.
    """
    own = {name: value for name, value in os.environ.items() if name not in (JAX_CACHE, TORCH_CACHE)}
    return {**WORKERS_DEFAULTS, **own, **dict.fromkeys(THREAD_VARIABLES, str(threads))}  # read as a library is loaded


def of_task(mattering: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a worker's environment, where the run's main process may be on another machine.

    Args:
        mattering: The main process's, those of `that_matter`. They replace this process's own: Dask and Ray set some,
            such as OMP_NUM_THREADS and MALLOC_TRIM_THRESHOLD_. Those of `OF_MACHINE` stay this process's.
    """
    own = {name: value for name, value in os.environ.items() if name not in (JAX_CACHE, TORCH_CACHE)}
    replaced = [name for name in that_matter(own) if not name.startswith(OF_MACHINE)]
    asked = {name: value for name, value in mattering.items() if not name.startswith(OF_MACHINE)}
    return {name: value for name, value in own.items() if name not in replaced} | asked


def that_matter(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that can change what is measured, by name."""
    return {
        name: value
        for name, value in sorted(variables.items())
        if (name.startswith(PREFIXES) or name in COMPILERS)
        and name not in WITHOUT_EFFECT
        and not any(part in name.upper() for part in SECRETS)
    }


def worker_cores(threads: int, place: int = 0) -> tuple[int, ...]:
    """Return the CPUs on which the workers run: the last ones at hand, since the first serve most interrupts.

    Where workers run at the same time, each has its own `place` and those CPUs before, if there are enough.
    """
    at_hand = cores_at_hand()
    last = len(at_hand) - place * threads
    return tuple(at_hand[last - threads : last] if last >= threads else at_hand[-threads:])


def cores_at_hand() -> list[int]:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))  # macOS has no affinity


def capture(
    plan: Plan,
    variables: Mapping[str, str],
    workers: Mapping[str, tuple[Mapping[str, str], float]],
    calibrations: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Return the environment of a run.

    Args:
        plan: What was asked for.
        variables: Those of the workers' environment.
        workers: What each worker says of itself, and its import's seconds.
        calibrations: Of each framework what its probes take, in seconds per unit of their work.
    """
    fixed = {
        "plan": asdict(plan),
        "versions": versions(),
        "commit": _commit(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": {"at hand": len(cores_at_hand()), "of the workers": list(worker_cores(plan.threads))},
        "affinity": "set" if hasattr(os, "sched_setaffinity") else "cannot be set on this system",
        "memory_bytes": psutil.virtual_memory().total,
        "variables": that_matter(variables),
        "workers": {name: dict(words) for name, (words, _) in workers.items()},
    }
    fixed = plain(fixed)
    key = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:12]
    moment = {
        "started": now(),
        "startup_seconds": process_age(),
        "busy_percent": psutil.cpu_percent(interval=0.2),
        "import_seconds": {name: seconds for name, (_, seconds) in workers.items()},
        "seconds_per_unit": plain(calibrations),
    }
    return {"key": key, **moment, **fixed}


def versions() -> dict[str, str | None]:
    """Return the versions of what a value depends on; None of a package that is not installed."""
    packages = {name: _version(name) for name in PACKAGES}
    return {"jaxopt_study": __version__, "python": platform.python_version(), **packages}


@dataclass(frozen=True)
class Environment:
    """What an environment must have to be read; `capture` writes it. Other entries are kept as they are."""

    key: str
    plan: dict[str, Any]
    started: str
    startup_seconds: float
    busy_percent: float
    import_seconds: dict[str, float]
    seconds_per_unit: dict[str, dict[str, float]]
    versions: dict[str, str | None]
    commit: str | None
    system: str
    cpu: str
    cores: dict[str, Any]
    affinity: str
    memory_bytes: int
    variables: dict[str, str]
    workers: dict[str, dict[str, str]]


def plan_of(environment: Mapping[str, Any]) -> Plan:
    """Return what the run of a recorded environment was asked for.

    Raises:
        ValueError: This version knows no such plan.
    """
    if unknown := sorted(set(environment["plan"]) - {field.name for field in fields(Plan)}):
        raise ValueError(f"its plan is another version's: {unknown[0]!r} is unknown")
    try:
        return msgspec.convert(environment["plan"], Plan)
    except msgspec.ValidationError as error:
        raise ValueError(f"its plan is another version's: {error}") from None


def differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """Return one line for each entry that differs, but for those of `MOMENT`."""
    lines = []
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        if not path and name in MOMENT:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{path}{name}.")
        elif before != after:
            lines.append(f"{path}{name} was {before!r}, is {after!r}")
    return lines


def write(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write `environment` into a folder that the caller has claimed: whole, or not at all.

    Raises:
        OSError: It cannot be written (the disk is full, say).
    """
    part = folder / f"{ENVIRONMENT}.part"
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(environment, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(folder / ENVIRONMENT)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(folder: Path) -> dict[str, Any]:
    """Return the environment that `write` left in the folder.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none.
    """
    try:
        found: dict[str, Any] = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        msgspec.convert(found, Environment)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"{folder / ENVIRONMENT}: {error}") from None
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout that this package lies in, with `+` where it was changed; None elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *words: str) -> str:
    answer = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def _cpu() -> str:
    """Return the processor's name and widest vectors; the library that knows more takes a second to say it."""
    unnamed = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return unnamed
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    vectors = [words for flag, words in VECTORS.items() if flag in flags]
    return ", ".join([facts.get("model name", unnamed), *vectors[:1]])
