"""Models of PyTorch and flax that compute the same once their parameters are carried over, both ways."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port import Matching, to_flax_params, to_torch_params

pytestmark = pytest.mark.usefixtures("backends")  # both frameworks in float64


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


FLATTENED = Matching(flattened={"fc": (4, 8, 6)})


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
    variables = to_flax_params(model, template, FLATTENED)
    distance = jnp.abs(flax_model.apply(variables, channels_last(images)) - model(images).detach().numpy()).max()
    assert distance < 1e-14
    assert same_state(to_torch_params(variables, model, FLATTENED), model.state_dict())


def test_an_nnx_network_computes_what_torchs_does(trained):
    """8.9e-16 was measured. The random state of dropout stays as it is."""
    model, images = trained
    flax_model = NnxCNN(nnx.Rngs(0))
    state = to_flax_params(model, in_float64(nnx.state(flax_model)), FLATTENED)
    nnx.update(flax_model, state)
    flax_model.eval()
    distance = jnp.abs(flax_model(channels_last(images)) - model(images).detach().numpy()).max()
    assert distance < 1e-14
    assert same_state(to_torch_params(nnx.state(flax_model), model, FLATTENED), model.state_dict())


def test_a_state_dict_alone_must_be_told_of_transposed_convolutions(trained):
    """A kernel of equal numbers of inputs and outputs fits both: it is taken for a convolution."""
    model, _ = trained
    template = in_float64(jax.eval_shape(LinenCNN().init, jax.random.key(0), jnp.zeros((1, 4, 3, 2))))
    told = to_flax_params(model.state_dict(), template, replace(FLATTENED, transposed=["up"]))
    silent = to_flax_params(model.state_dict(), template, FLATTENED)
    same = jax.tree.map(jnp.array_equal, to_flax_params(model, template, FLATTENED), told)
    assert jax.tree.all(same)
    assert not jnp.array_equal(silent["params"]["up"]["kernel"], told["params"]["up"]["kernel"])


class Tied(torch.nn.Module):
    """An embedding whose weight is that of the output too."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
        self.out.weight = self.embed.weight


def test_tied_weights_are_one_leaf():
    model = Tied()
    template = {"embed": {"embedding": jax.ShapeDtypeStruct((5, 3), float)}}
    params = to_flax_params(model, template)
    doubled = jax.tree.map(lambda x: 2 * x, params)
    state = to_torch_params(doubled, model)
    assert torch.equal(state["out.weight"], 2 * model.embed.weight)
    assert torch.equal(state["embed.weight"], state["out.weight"])


def test_attention_splits_kernels_into_heads():
    """A kernel of (inputs, heads, size), as flax's attention has it; 5e-16 was measured."""
    model = torch.nn.ModuleDict({"query": torch.nn.Linear(4, 6), "out": torch.nn.Linear(6, 4)})
    query = linen.DenseGeneral((2, 3), param_dtype=float)
    out = linen.DenseGeneral(4, axis=(-2, -1), param_dtype=float)
    inputs = np.random.default_rng(0).standard_normal((7, 4))
    template = {
        "query": jax.eval_shape(query.init, jax.random.key(0), inputs)["params"],
        "out": jax.eval_shape(out.init, jax.random.key(0), jnp.zeros((7, 2, 3)))["params"],
    }
    params = to_flax_params(model, template)
    mine = out.apply({"params": params["out"]}, query.apply({"params": params["query"]}, inputs))
    other = model["out"](model["query"](torch.from_numpy(inputs))).detach().numpy()
    assert jnp.abs(mine - other).max() < 1e-14
    assert same_state(to_torch_params(params, model), model.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_no_bit_is_lost(dtype):
    model = torch.nn.ModuleDict({"out": torch.nn.Linear(3, 2)}).to(dtype)
    for wider in (str(dtype).removeprefix("torch."), "float64"):
        template = {"out": {"kernel": jax.ShapeDtypeStruct((3, 2), wider), "bias": jax.ShapeDtypeStruct((2,), wider)}}
        params = to_flax_params(model, template)
        assert params["out"]["kernel"].dtype == wider
        assert np.array_equal(params["out"]["kernel"].T, model["out"].weight.detach().double().numpy())
    with pytest.raises(
        DictionaryError,
        match=f"out/bias: float64 numbers would be rounded to {model['out'].bias.dtype}".replace("torch.", ""),
    ):
        to_torch_params(params, model)


def wrong(shape=(3, 2), bias="bias", **more):
    return {"out": {"kernel": jax.ShapeDtypeStruct(shape, float), bias: jax.ShapeDtypeStruct((2,), float)} | more}


@pytest.mark.parametrize(
    ("template", "matching", "words"),
    [
        (wrong((2, 3)), Matching(), r"out.weight \(2, 3\) does not fit out/kernel \(2, 3\)"),
        (wrong(bias="offset"), Matching(), r"no parameter for out/offset \(2,\); it has out.bias \(2,\) left: say"),
        ({"out": {"kernel": wrong()["out"]["kernel"]}}, Matching(), r"no leaf is PyTorch's out.bias \(2,\): say"),
        (wrong(weight=jax.ShapeDtypeStruct((2, 3), float)), Matching(), "two leaves are PyTorch's out.weight"),
        (wrong(), Matching(modules={"out": "in"}), r"no parameter for out/bias \(2,\), out/kernel"),
        (wrong(), Matching(flattened={"in": (1, 1, 3)}), "'in' is PyTorch's name of no linear layer: the linear"),
        (wrong(), Matching(transposed=["out"]), "'out' is PyTorch's name of no convolution: there is no convolution"),
        (wrong(), Matching(transposed="out"), "'out' must be a list of names"),
        (wrong(), Matching(modules={"in": "out"}), "modules= names 'in', which is no module of the template"),
        ({"out": {"kernel": 1.0}}, Matching(), "out/kernel is a float: give a tree of arrays"),
        (torch.nn.Linear(1, 1), Matching(), "the template is a Linear: give a tree of arrays"),
        (wrong(), Matching(flattened={"out": (1, 2, 2)}), r"3 inputs, and a flattened image \(1, 2, 2\) 4"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(template, matching, words):
    with pytest.raises(DictionaryError, match=words) as caught:
        to_flax_params(torch.nn.ModuleDict({"out": torch.nn.Linear(3, 2)}), template, matching)
    assert "\n" not in str(caught.value)


class Transposing(torch.nn.ConvTranspose2d):
    pass


class Inputs(torch.nn.Linear):
    pass


def test_the_class_of_a_module_says_its_layout():
    """Square kernels fit any layout."""
    template = {"a": {"kernel": jax.ShapeDtypeStruct((2, 2, 3, 3), float)}}
    own, known = Transposing(3, 3, 2, bias=False), torch.nn.ConvTranspose2d(3, 3, 2, bias=False)
    known.weight = own.weight
    first, second = (to_flax_params(torch.nn.ModuleDict({"a": module}), template) for module in (own, known))
    assert jnp.array_equal(first["a"]["kernel"], second["a"]["kernel"])
    square = {"a": {"kernel": jax.ShapeDtypeStruct((3, 3), float)}}
    assert to_flax_params(torch.nn.ModuleDict({"a": Inputs(3, 3, bias=False)}), square)
    with pytest.raises(DictionaryError, match=r"a\.weight is of a Embedding, and a/kernel a kernel"):
        to_flax_params(torch.nn.ModuleDict({"a": torch.nn.Embedding(3, 3)}), square)
    named = torch.nn.Module()
    named.kernel = torch.nn.Parameter(torch.arange(9.0).reshape(3, 3))
    assert jnp.array_equal(to_flax_params(named, {"kernel": square["a"]["kernel"]})["kernel"], named.kernel.detach())


def test_a_scale_of_several_axes_is_refused():
    template = {"a": {"scale": jax.ShapeDtypeStruct((2, 2, 2), float)}}
    with pytest.raises(DictionaryError, match=r"a\.weight \(2, 2, 2\) scales several axes"):
        to_flax_params(torch.nn.ModuleDict({"a": torch.nn.LayerNorm([2, 2, 2], bias=False)}), template)


def test_a_tied_weight_is_not_made_two():
    shape = jax.ShapeDtypeStruct
    template = {"embed": {"embedding": shape((5, 3), float)}, "out": {"kernel": shape((3, 5), float)}}
    with pytest.raises(DictionaryError, match=r"embed\.weight and out\.weight are one tensor in PyTorch"):
        to_flax_params(Tied(), template)
    apart = {name: tensor.clone() for name, tensor in Tied().state_dict().items()}
    assert to_flax_params(apart, template)


def test_statistics_are_not_left_behind():
    """Parameters alone are taken; all variables without one module's statistics are not."""
    model = torch.nn.ModuleDict({"a": torch.nn.BatchNorm1d(2, affine=False), "b": torch.nn.BatchNorm1d(2)})
    leaf = jax.ShapeDtypeStruct((2,), float)
    params, statistics = {"b": {"scale": leaf, "bias": leaf}}, {"mean": leaf, "var": leaf}
    assert to_flax_params(model, params)
    for variables in ({"params": params}, {"params": params, "batch_stats": {"b": statistics}}):
        with pytest.raises(DictionaryError, match=r"no leaf is PyTorch's a\.running_mean \(2,\)"):
            to_flax_params(model, variables)
    assert to_flax_params(model, {"params": params, "batch_stats": {"a": statistics, "b": statistics}})


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.ones(2, device="meta"), "out is a tensor without numbers"),
        (torch.ones(2).to_sparse(), r"a tensor of float\d\d and sparse_coo has no counterpart in NumPy"),
        (torch.ones(2).to(torch.float8_e5m2), "a tensor of float8_e5m2 and strided has no counterpart"),
        ("text", "out is a str, no tensor"),
        (torch.ones(2, dtype=torch.int64), "int64 numbers would be rounded to float64"),
    ],
)
def test_a_tensor_without_a_counterpart_is_one_line(tensor, words):
    with pytest.raises(DictionaryError, match=words):
        to_flax_params({"out": tensor}, {"out": jax.ShapeDtypeStruct((2,), float)})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int32, torch.complex64])
def test_other_numbers_are_carried_as_they_are(dtype):
    tensor = torch.tensor([1, 0]).to(dtype)
    like = {"out": jax.ShapeDtypeStruct((2,), str(dtype).removeprefix("torch."))}
    tree = to_flax_params({"out": tensor}, like)
    assert torch.equal(to_torch_params(tree, {"out": tensor})["out"], tensor)


def test_what_is_no_model_is_refused():
    with pytest.raises(DictionaryError, match=r"model is a list: give a torch.nn.Module or its state_dict\(\)"):
        to_flax_params([torch.ones(2)], wrong())
