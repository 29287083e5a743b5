"""Cases that several tests share, as data."""

import numpy as np

from jaxopt_study.data.workload import Workload, draw_params


def iris(seed=0, epochs=1):
    """Return Fisher's irises as a workload: a softmax regression other than the notebook's."""
    from sklearn.datasets import load_iris

    rows, widths = load_iris(return_X_y=True), (4, 3)
    return Workload("iris", widths, rows, rows, draw_params(widths, seed), np.tile(np.arange(150), (epochs, 1)))
