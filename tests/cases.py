"""Cases that several tests share, as data."""

from dataclasses import replace

import numpy as np

from jaxopt_study.bench.record import Record
from jaxopt_study.data.networks import Dense
from jaxopt_study.data.workload import Workload, enumerate_params
from jaxopt_study.studies.own import chosen


def a_record(**changes):
    facts = {
        "study": "optimizers",
        "experiment": "optimizers",
        "subject": "adam",
        "framework": "jax",
        "method": "scan",
        "status": "ok",
        "group": "2026-01-01T00:00:00",
        "environment": "abc",
        "first_seconds": 1.0,
    }
    return Record(**(facts | changes))


def iris(seed=0, epochs=1):
    """Return Fisher's irises as a workload: a softmax regression other than the notebook's."""
    from sklearn.datasets import load_iris

    rows, network = load_iris(return_X_y=True), Dense((4, 3))
    return Workload("iris", network, rows, rows, network.draw(seed), np.tile(np.arange(150), (epochs, 1)))


def shift(tree, by):
    """Return the tree with a vector, in the order of `ravel`, added to it."""
    places = enumerate_params(tree)
    return {
        layer: {name: leaf + by[places[layer][name].astype(int)] for name, leaf in leaves.items()}
        for layer, leaves in tree.items()
    }


def records_of(experiment, plan, backends):
    """Return a record of each case of an experiment's only group, on a small network of the plan's with tanh."""
    workload = chosen.workload(plan, None)
    workload = replace(workload, network=replace(workload.network, activation="tanh"))
    (group,) = experiment.groups(plan)
    found = []
    for case in group.cases:
        task = experiment.task(backends[case.framework], case, workload, plan)
        *_, output = task.run(task.start())
        value = experiment.summarize(case, task.export(output), workload, plan)
        found.append(Record(**vars(case), environment="", group=0.0, status="ok", samples=(1.0,), value=value))
    return found
