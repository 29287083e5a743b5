"""Updates of torch.optim that optax's public parts cannot express, one file each; see `jaxopt_study.dictionary`.

Each is an ordinary `optax.GradientTransformation`: it can be chained, masked, partitioned and scheduled. But for
`averaged_model`, which is no part of an optimizer: it averages parameters beside it.
"""

from jaxopt_study.dictionary.transforms.adafactor import torch_adafactor
from jaxopt_study.dictionary.transforms.averaging import averaged_model
from jaxopt_study.dictionary.transforms.lbfgs import torch_lbfgs
from jaxopt_study.dictionary.transforms.muon import scale_by_torch_muon
from jaxopt_study.dictionary.transforms.nadam import scale_by_torch_nadam
from jaxopt_study.dictionary.transforms.rprop import torch_rprop
from jaxopt_study.dictionary.transforms.sparse_adam import scale_by_torch_sparse_adam

__all__ = [
    "averaged_model",
    "scale_by_torch_muon",
    "scale_by_torch_nadam",
    "scale_by_torch_sparse_adam",
    "torch_adafactor",
    "torch_lbfgs",
    "torch_rprop",
]
