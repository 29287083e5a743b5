"""Where the tasks of a run go, as a user asked for it: the engine, and the address of its cluster."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from jaxopt_study.bench import pools
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.pools import Pool, Unreachable
from jaxopt_study.config.options import ENGINES, Config
from jaxopt_study.config.values import ConfigError, one_of
from jaxopt_study.studies import EVERY

__all__ = ["connect"]


class Cluster(NamedTuple):
    """What an engine needs: the option with its address, the modules of its extra, and how to make its pool."""

    option: str
    modules: tuple[str, ...]
    pool: Callable[[str, Plan], Pool]


CLUSTERS = {
    "dask": Cluster("scheduler", ("dask", "distributed"), lambda address, _: pools.Dask(address)),
    "ray": Cluster("address", ("ray",), lambda address, plan: pools.Ray(address, plan.threads)),
}


def connect(config: Config, plan: Plan) -> Pool | None:
    """Return the cluster that `config` names; None for this machine's cores.

    Raises:
        ConfigError: It names none that answers, or the plan has no use for it.
    """
    engine = one_of("engine", config.engine, ENGINES)
    for name, cluster in CLUSTERS.items():
        if name != engine and getattr(config, cluster.option) is not None:
            raise ConfigError(f"--{cluster.option} {getattr(config, cluster.option)} is for --engine {name}")
    if engine not in CLUSTERS:
        return None
    option, modules, pool = CLUSTERS[engine]
    address = getattr(config, option)
    if not address:
        raise ConfigError(f"--engine {engine} needs the address of a cluster: --{option} ADDRESS")
    if any(find_spec(module) is None for module in modules):
        raise ConfigError(
            f"--engine {engine} needs a package that is not installed: python -m pip install 'jaxopt_study[{engine}]'"
        )
    distributed = [name for name, study in EVERY.items() if any(group.distributed for group in study.groups(plan))]
    if not set(distributed) & set(plan.studies):
        raise ConfigError(f"--engine {engine} has nothing to do: it is for --studies {' '.join(distributed)}")
    try:
        return pool(address, plan)
    except Unreachable as error:
        raise ConfigError(f"--{option} {address} does not answer: {error}") from None
