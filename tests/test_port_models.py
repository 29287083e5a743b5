"""Models of PyTorch and flax that compute the same once their parameters are carried over, both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port import to_flax_params, to_torch_params
from tests.conftest import compiled_quickly, load_backend


@pytest.fixture(autouse=True, scope="module")
def backends():
    """Both frameworks in float64."""
    for name in ("jax", "torch"):
        load_backend(name)
    with compiled_quickly():
        yield


class TorchCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.bn = torch.nn.BatchNorm2d(4, momentum=0.2)
        self.up = torch.nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.norm = torch.nn.GroupNorm(2, 4)
        self.fc = torch.nn.Linear(4 * 8 * 6, 3)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        x = self.norm(self.up(x))
        return self.fc(x.flatten(1))


class LinenCNN(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Conv(4, (3, 3), padding=1, feature_group_count=2, name="conv", param_dtype=float)(x)
        x = linen.BatchNorm(not train, momentum=0.8, name="bn", param_dtype=float)(x)
        x = linen.relu(x)
        x = linen.ConvTranspose(4, (2, 2), strides=(2, 2), padding="VALID", name="up", param_dtype=float)(x)
        x = linen.GroupNorm(2, epsilon=1e-5, name="norm", param_dtype=float)(x)
        return linen.Dense(3, name="fc", param_dtype=float)(x.reshape(x.shape[0], -1))


class NnxCNN(nnx.Module):
    def __init__(self, rngs):
        more = {"rngs": rngs, "param_dtype": float}
        self.conv = nnx.Conv(2, 4, (3, 3), padding=1, feature_group_count=2, **more)
        self.bn = nnx.BatchNorm(4, momentum=0.8, **more)
        self.up = nnx.ConvTranspose(4, 4, (2, 2), strides=(2, 2), padding="VALID", **more)
        self.norm = nnx.GroupNorm(4, 2, epsilon=1e-5, **more)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.fc = nnx.Linear(4 * 8 * 6, 3, **more)

    def __call__(self, x):
        x = nnx.relu(self.bn(self.conv(x)))
        x = self.drop(self.norm(self.up(x)))
        return self.fc(x.reshape(x.shape[0], -1))


def in_float64(template):
    """Return the template in the models' type: flax makes statistics in float32."""
    shape = lambda x: jax.ShapeDtypeStruct(x.shape, float) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return jax.tree.map(shape, template)


FLATTENED = {"flattened": {"fc": (4, 8, 6)}}


@pytest.fixture
def trained():
    """A network whose statistics are not those of the start, and images."""
    torch.manual_seed(0)
    model, images = TorchCNN(), torch.randn(5, 2, 4, 3)
    for _ in range(3):
        model(images)
    return model.eval(), images


def channels_last(images):
    return jnp.asarray(images.numpy()).transpose(0, 2, 3, 1)


def same_state(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_linen_network_computes_what_torchs_does(trained):
    """1.1e-15 was measured."""
    model, images = trained
    flax_model = LinenCNN()
    template = in_float64(jax.eval_shape(flax_model.init, jax.random.key(0), channels_last(images)))
    variables = to_flax_params(model, template, **FLATTENED)
    distance = jnp.abs(flax_model.apply(variables, channels_last(images)) - model(images).detach().numpy()).max()
    assert distance < 1e-14
    assert same_state(to_torch_params(variables, model, **FLATTENED), model.state_dict())


def test_an_nnx_network_computes_what_torchs_does(trained):
    """8.9e-16 was measured. The random state of dropout stays as it is."""
    model, images = trained
    flax_model = NnxCNN(nnx.Rngs(0))
    state = to_flax_params(model, in_float64(nnx.state(flax_model)), **FLATTENED)
    nnx.update(flax_model, state)
    flax_model.eval()
    distance = jnp.abs(flax_model(channels_last(images)) - model(images).detach().numpy()).max()
    assert distance < 1e-14
    assert same_state(to_torch_params(nnx.state(flax_model), model, **FLATTENED), model.state_dict())
