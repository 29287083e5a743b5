"""The minimizers of both backends: what they take, what they refuse, and what they compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.newton import METHODS, both, compilations, minimize


def test_a_second_run_compiles_nothing(backends):
    def fun(x, shift):
        return ((x - shift) ** 4).sum()

    start, shifts = jnp.zeros(3), [jnp.asarray(shift) for shift in (1.0, 2.0)]
    assert compilations(backends, fun, start, shifts[0]) > 0
    assert compilations(backends, fun, start, shifts[1]) == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_trees_in_float32_stay_so(name, method, backends):
    def fun(tree):
        return ((tree["a"] - 1) ** 2).sum() + (tree["b"][0] ** 4).sum() + (tree["b"][0] ** 2).sum()

    start = {"a": np.zeros((2, 3), np.float32), "b": [np.ones(2, np.float32)]}
    as_array = jnp.asarray if name == "jax" else torch.as_tensor
    tree = {"a": as_array(start["a"]), "b": [as_array(start["b"][0])]}
    result = backends[name].newton.minimize(fun, tree, method=method)
    assert result.converged, result.reason
    assert str(result.x["a"].dtype).endswith("float32")
    assert np.allclose(np.asarray(result.x["a"]), 1, atol=1e-3)


def test_what_closes_over_a_batch_is_batched(backends):
    shifts = jnp.arange(3.0)
    many = jax.vmap(lambda shift: backends["jax"].newton.minimize(lambda x: ((x - shift) ** 2).sum(), jnp.zeros(2)))
    assert np.allclose(many(shifts).x, shifts[:, None])


def test_torch_minimizes_without_the_callers_gradients(backends):
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        result = backends["torch"].newton.minimize(lambda x, w: ((x - w) ** 4).sum() + (x**2).sum(), w * 0, w)
    assert result.converged
    assert not result.x.requires_grad


def good(x):
    return (x**2).sum()


BAD = [
    (lambda x: x**2, {}, TypeError, r"the objective must be one floating point number, this one returns shape \(2,\)"),
    (good, {"x0": np.array([np.nan, 1.0])}, ValueError, "x0 holds NaN or infinite values"),
    (lambda x: (x - 1).sum() / (x.sum() - x.sum()), {}, ValueError, "not finite at the start"),
    (lambda x: (x**0.5).sum(), {"x0": np.array([1.0, 0.0])}, ValueError, "not finite at the start"),
    (good, {"x0": np.array([True, False])}, TypeError, "x0 has leaves of type .*bool"),
    (good, {"constraints": ()}, TypeError, "no option 'constraints': scipy.optimize.minimize takes them"),
    (good, {"callback": 3}, TypeError, "callback 3 is no function"),
    (good, {"max_seconds": 0}, ValueError, "max_seconds 0 is not a positive and finite number"),
    (good, {"x0": np.zeros(0)}, ValueError, "there are no parameters in x0"),
    (good, {"hessian": lambda x: x}, ValueError, r"the Hessian function returns shape .*must return shape \(2, 2\)"),
    (good, {"hessian": lambda x: x[:, None] * x[:1]}, ValueError, r"must return shape \(2, 2\)"),
    (good, {"hessian": lambda x: x[:, None] * (x + 1)}, ValueError, "not symmetric"),
    (good, {"hessian": lambda x: x[:, None] * (x + 1), "method": "trust_exact"}, ValueError, "not symmetric"),
    (good, {"hessian": lambda x: x, "method": "lbfgs"}, ValueError, "method 'lbfgs' uses no hessian"),
    (good, {"hessian": "exact"}, TypeError, "hessian 'exact' is neither"),
    (good, {"tolerance": 0.0}, ValueError, "tolerance 0.0 is not a positive"),
    (good, {"tolerance": float("nan")}, ValueError, "tolerance nan is not"),
    (good, {"decrement_tolerance": -1.0}, ValueError, "decrement_tolerance -1.0 is not"),
    (good, {"max_iterations": 0}, ValueError, "max_iterations 0 is not a positive whole number"),
    (good, {"max_iterations": 2.5}, ValueError, "max_iterations 2.5 is not"),
    (good, {"block_size": 0}, ValueError, "block_size 0 is not"),
    (good, {"method": "newton"}, ValueError, "method 'newton' is not known: choose from exact, newton_cg"),
    (good, {"method": "trust-exact"}, ValueError, "lbfgs; 'trust_exact' is meant"),
    (good, {"method": "L-BFGS-B"}, ValueError, "'lbfgs' is meant"),
    (good, {"gradient_tolerance": 1e-3}, TypeError, "no option 'gradient_tolerance': .*; 'tolerance' is meant"),
    (3, {}, TypeError, r"the objective 3 is no function of \(x, \*args\)"),
    (good, {"maxiter": 5}, TypeError, "minimize has no option 'maxiter': .*; 'max_iterations' is meant"),
    (good, {"tolerence": 5}, TypeError, "minimize has no option 'tolerence': .*; 'tolerance' is meant"),
    (good, {"colour": "red"}, TypeError, "no option 'colour': choose from method, .*, max_seconds$"),
    (good, {"args": (1.0,)}, TypeError, r"no option 'args': give them after x0"),
    (lambda x: (x**2).sum().reshape(1), {}, TypeError, r"shape \(1,\), .*float64: return value.reshape\(\(\)\)"),
    (good, {"line_search": "wolfe"}, ValueError, "line_search 'wolfe' is not known: choose from backtracking"),
    (good, {"method": "gauss_newton"}, TypeError, "give fun as Composite"),
]


@pytest.mark.parametrize(("fun", "options", "kind", "words"), BAD, ids=[words for *_, words in BAD])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_bad_input_is_one_clear_line(name, fun, options, kind, words, backends):
    options = dict(options)
    x0 = options.pop("x0", np.array([1.0, 2.0]))
    with pytest.raises(kind, match=words) as caught:
        minimize(backends, name, fun, x0, **options)
    assert "\n" not in str(caught.value)


class Foreign:
    """An array of another library."""

    def __init__(self, dtype):
        self.dtype, self.shape = dtype, (2,)


STARTS = [
    (lambda f: "three", "type str; they must be .* of one type, float32 or float64"),
    (lambda f: f("float16"), "float16; they must be .* of one type, float32 or float64"),
    (lambda f: [f("float32"), f("float64")], "float32 and .*float64; they must be .* of one type"),
    (lambda f: Foreign("float32"), "type Foreign; they must be .* of one type, float32 or float64"),
]


@pytest.mark.parametrize(("start", "words"), STARTS, ids=[words for _, words in STARTS])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_start_of_another_type_is_refused(name, start, words, backends):
    as_array = both(name, jnp.asarray, torch.as_tensor)
    with pytest.raises(TypeError, match=words):
        backends[name].newton.minimize(good, start(lambda kind: as_array(np.ones(2, kind))))


NUMBERS = {
    "number": (3, ()),
    "list": ([1, 2.5], (2,)),
    "whole": (np.array([[1, 2]]), (1, 2)),
    "numpy": (np.array([1.0, 2.0], "float32"), (2,)),
    "beside": ({"a": np.ones(2, "float32"), "b": 3}, ()),
    "numpy's number": (np.float64(5), ()),
    "list of them": ([np.float64(-1.2), np.float32(1)], (2,)),
}


@pytest.fixture
def in_float32(backends):
    """Both frameworks as they are when nothing was set, for one test."""
    torch.set_default_dtype(torch.float32)
    with jax.enable_x64(False):
        yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("given", NUMBERS)
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_numbers_are_converted(name, given, backends, in_float32):
    """To the default floating point type, or to that of the leaf beside them."""
    x0, shape = NUMBERS[given]

    def fun(x):
        return sum(((leaf - 1) ** 2).sum() for leaf in (x.values() if isinstance(x, dict) else [x]))

    x = backends[name].newton.minimize(fun, x0).x
    x = x["b"] if isinstance(x, dict) else x
    assert str(x.dtype).endswith("float32")
    assert tuple(x.shape) == shape
    assert np.allclose(np.asarray(x), 1, atol=1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.array, jnp.asarray, torch.tensor])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_tolerance_may_be_an_array_of_one_number(name, kind, backends):
    result = backends[name].newton.minimize(lambda x: ((x - 1) ** 2).sum(), [0.0, 3.0], tolerance=kind(0.5))
    assert float(result.tolerance) == 0.5
    with pytest.raises(ValueError, match=r"tolerance .* is not a positive and finite number"):
        backends[name].newton.minimize(lambda x: ((x - 1) ** 2).sum(), [0.0, 3.0], tolerance=kind(-0.5))


def test_a_whole_number_beside_float64_is_float64(backends):
    for name in ("jax", "torch"):
        start = {"a": np.zeros(2), "b": 3}
        x = backends[name].newton.minimize(lambda x: ((x["a"] - 1) ** 2).sum() + (x["b"] - 1) ** 2, start).x
        assert str(x["b"].dtype).endswith("float64")


@pytest.mark.parametrize(("given", "kind"), [("mean", "str"), (good, "function"), (torch.nn.Tanh(), "Tanh")])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_an_argument_that_is_no_array_is_named(name, given, kind, backends):
    """In PyTorch it could be anything; there too it is refused, so that what runs in one backend runs in the other."""
    with pytest.raises(TypeError, match=rf"args\[0\]\['a'\] is a .*{kind}.*: put it into the function"):
        backends[name].newton.minimize(lambda x, _: good(x), [1.0, 2.0], {"a": given})


@pytest.mark.parametrize("given", [None, 2, 2.0, np.float32(2), np.full(2, 2), np.full(2, 2.0)])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_numbers_and_numpys_arrays_are_arguments_everywhere(name, given, backends):
    newton = backends[name].newton
    fun = lambda x, a: (((x - (2 if a["a"] is None else a["a"])) ** 2).sum(), x.sum())  # noqa: E731
    result = newton.minimize(fun, [1.0, 3.0], {"a": given}, has_aux=True)
    assert np.allclose(result.x, 2)
    assert float(result.aux) == pytest.approx(4)


NOT_DIFFERENTIABLE = {
    "jax": [
        (lambda x: np.sum(np.asarray(x) ** 2), "needs concrete values of x or args, as NumPy, float"),
        (
            lambda x: (x**2).sum() if x[0] > 0 else x.sum(),
            "as NumPy, float.. and if do: write it with jax",
        ),
        (lambda x: float(x[0]) * x.sum(), "needs concrete values of x or args, as NumPy, float"),
        (
            lambda x: jax.pure_callback(lambda v: np.sum(v**2), jax.ShapeDtypeStruct((), x.dtype), x),
            "the objective cannot be differentiated: Pure callbacks do not support JVP",
        ),
        (
            lambda x: jax.lax.while_loop(lambda c: c.sum() > 1, lambda c: c / 2, x).sum(),
            "the objective cannot be differentiated: Reverse-mode differentiation does not work for lax.while_loop",
        ),
    ],
    "torch": [
        (lambda x: torch.tensor((x**2).sum().item()), r"cannot be differentiated: .item\(\), .detach\(\) or NumPy cut"),
        (lambda x: (x.detach() ** 2).sum(), "or NumPy cut its value off from x"),
        (lambda x: torch.as_tensor(np.sum(x.detach().numpy() ** 2)), "or NumPy cut its value off from x"),
        (lambda x: OneWay.apply(x), "the objective cannot be differentiated: no way back"),
    ],
}


class OneWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x**2).sum()

    @staticmethod
    def backward(ctx, slope):
        raise RuntimeError("no way back")


@pytest.mark.parametrize("method", [None, "exact", "lbfgs"])
@pytest.mark.parametrize(("name", "case"), [(name, case) for name, rows in NOT_DIFFERENTIABLE.items() for case in rows])
def test_an_objective_without_a_first_derivative_is_said_to_have_none(name, case, method, backends):
    """Not that it has no second one, nor that its constant gradient has converged."""
    fun, words = case
    with pytest.raises(TypeError, match=words) as caught:
        backends[name].newton.minimize(fun, [1.0, 2.0], method=method)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_constant_objective_is_minimal_everywhere(name, backends):
    assert backends[name].newton.minimize(lambda x: 0 * x.sum(), [1.0, 2.0]).converged
    constant = {"jax": jnp.array(3.0), "torch": torch.tensor(3.0)}[name]
    assert backends[name].newton.minimize(lambda x: constant, [1.0, 2.0]).converged


@pytest.mark.parametrize("bounds", [None, (None, 0.5)])
def test_a_float64_start_under_float32_is_told_how(bounds, backends):
    with (
        jax.enable_x64(False),
        pytest.raises(TypeError, match=r"jax.config.update\('jax_enable_x64', True\)") as caught,
    ):
        backends["jax"].newton.minimize(good, np.zeros(3), bounds=bounds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_an_objective_of_another_type_is_refused(name, backends):
    as_array = both(name, jnp.asarray, torch.as_tensor)
    with pytest.raises(ValueError, match=r"returns .*float64 where x0 is .*float32"):
        backends[name].newton.minimize(
            lambda x, w: (x * w).sum(), as_array(np.ones(2, "float32")), as_array(np.ones(2))
        )


def test_what_can_be_checked_before_compiling_is(backends):
    minimize(backends, "jax", good, np.array([1.0, 2.0]))
    before = backends["jax"].runtime.compilations()
    for fun, options, kind, words in BAD:
        if "not symmetric" in words or "at the start" in words:
            continue  # they depend on values
        options = dict(options)
        x0 = options.pop("x0", np.array([1.0, 2.0]))
        with pytest.raises(kind, match=words):
            minimize(backends, "jax", fun, x0, **options)
    assert backends["jax"].runtime.compilations() == before


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_warm_start_takes_few_steps(name, backends):
    """None for the same data, and fewer than from afar for data that changed a little; 21 and 2 were measured."""

    def fun(x, a):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (a - x[:-1]) ** 2).sum()

    run = lambda start, a: backends[name].newton.minimize(fun, start, a, method="exact", tolerance=1e-6)  # noqa: E731
    first = run([-1.2, 1.0], 1.0)
    assert run(first.x, 1.0).iterations == 0
    again = run(first.x, 1.01)
    assert again.converged
    assert again.iterations <= 3 < 15 < first.iterations
