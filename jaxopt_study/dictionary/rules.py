"""How each torch.optim class is written in optax: for every configuration an expression, a class and the reason.

The expression is Python code in terms of `optax`, `jnp` and `jaxopt_study.dictionary.transforms`. It is the only
source: what is printed for a user is what `build` evaluates, and so what the tests and the study check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxopt_study.dictionary.allowed import DictionaryError, Options
from jaxopt_study.dictionary.options import check
from jaxopt_study.dictionary.translation import APPROXIMATE, CONDITIONS, EXACT, Translation, chained


def translate(name: str, options: Options, learning_rate: str = "") -> Translation:
    """Return the translation of a torch.optim class with these options.

    Args:
        name: The class, `RMSprop` say.
        options: What differs from torch's defaults.
        learning_rate: Code for a schedule, a function of the number of steps made, instead of the option `lr`.

    Raises:
        DictionaryError: There is no such class or option, or torch refuses the value.
    """
    return from_complete(name, check(name, options), learning_rate)


def from_complete(name: str, options: Options, learning_rate: str = "") -> Translation:
    """Return the translation of all the options of a class; torch need not accept them in its constructor."""
    made = RULES[name](options, learning_rate or repr(options["lr"]))
    large = max(options.get("betas", (0,))) > LARGEST_BETA
    if large and made.status == EXACT:
        return replace(made, status=CONDITIONS, condition=LARGE_BETA)
    if large and name == "SparseAdam":
        return replace(made, condition=f"{made.condition}; {LARGE_BETA}")
    return made


DEFAULT_DTYPE = "in float64 only if torch.set_default_dtype(torch.float64) was called. Without that call torch"
STATIC = 'static_args=("b1", "b2")'
"""Keeps Python's numbers: as arrays of the parameters' type, 0.999 would be 1 in bfloat16."""
LARGEST_BETA = 0.999
"""Up to here float32 is within the bounds that are checked; it is the default of Adam's b2."""
LARGE_BETA = (
    "in float64. In float32, JAX computes 1 - beta^t with a relative error of up to 6e-8 / (1 - beta), and torch "
    "computes it in float64"
)


def _chain(*parts: str) -> str:
    return chained([part for part in parts if part])


def _ascent(o: Options) -> str:
    return "optax.scale(-1.0)" if o["maximize"] else ""


def _decay(rate: float) -> str:
    return f"optax.add_decayed_weights({rate!r})" if rate else ""


def _rate(lr: str) -> str:
    return f"optax.scale_by_learning_rate({lr})"


def _at(lr: str, count: str = "c") -> str:
    """Return the code of the learning rate after `count` steps."""
    return f"{lr}({count})" if lr.isidentifier() else lr


def _l2(o: Options) -> str:
    return "" if o.get("decoupled_weight_decay") else _decay(o["weight_decay"])


def _decoupled(o: Options) -> str:
    return _decay(o["weight_decay"]) if o.get("decoupled_weight_decay") else ""


def _made(name: str, o: Options, expression: str, reason: str, status: str = EXACT, condition: str = "") -> Translation:
    decays = bool(o.get("weight_decay")) and (
        name in ("AdamW", "Muon", "Adafactor") or bool(o.get("decoupled_weight_decay"))
    )
    return Translation(name, dict(o), expression, status, reason, condition, decays or name == "ASGD")


def sgd(o: Options, lr: str) -> Translation:
    """`optax.sgd`, but for dampening, which torch leaves out at the first step."""
    m, d = o["momentum"], o["dampening"]
    if m and d and o["nesterov"]:  # a group may have it, past the constructor
        raise DictionaryError("SGD with nesterov and dampening cannot be translated: torch's constructor refuses it")
    if m and d:
        damping = f"optax.scale_by_schedule(lambda c: jnp.where(c == 0, 1.0, 1.0 - {d!r}))"
        rule = [damping, f"optax.trace({m!r})", _rate(lr)]
        reason = "optax has no dampening. torch does not apply its dampening at the first step"
    else:
        rule = [f"optax.sgd({lr}{f', momentum={m!r}' if m else ''}{', nesterov=True' if o['nesterov'] else ''})"]
        reason = (
            "the same rule. optax.sgd has no weight_decay. torch's is L2: it is added to the gradient, before momentum"
        )
    return _made("SGD", o, _chain(_ascent(o), _decay(o["weight_decay"]), *rule), reason)


def adam(o: Options, lr: str) -> Translation:
    """`optax.adam` after L2 decay, or `optax.adamw`; amsgrad takes its maximum before the bias correction."""
    name = "AdamW" if "decoupled_weight_decay" not in o else "Adam"
    options = dict(o) | {"decoupled_weight_decay": o.get("decoupled_weight_decay", True)}
    b1, b2 = o["betas"]
    moments = f"b1={b1!r}, b2={b2!r}"
    if o["amsgrad"]:
        root = f"jnp.sqrt(1 - {b2!r} ** (c + 1.0))"
        rule = [
            f"optax.inject_hyperparams(optax.scale_by_amsgrad, {STATIC})({moments}, "
            f"eps=lambda c: {o['eps']!r} * {root}, bias_correction_nu=False)",
            f"optax.scale_by_schedule(lambda c: {root})",
            _decoupled(options),
            _rate(lr),
        ]
        reason = (
            "torch takes the maximum of v, then corrects its bias. optax.amsgrad corrects first, then takes the maximum"
        )
    elif options["decoupled_weight_decay"]:
        rule = [f"optax.adamw({lr}, {moments}, eps={o['eps']!r}, weight_decay={o['weight_decay']!r})"]
        reason = "the same rule. The default of weight_decay is 1e-2 in torch and 1e-4 in optax.adamw"
    else:
        rule = [f"optax.adam({lr}, {moments}, eps={o['eps']!r})"]
        reason = "the same rule. torch's weight_decay is L2: it is added to the gradient, before the moments"
    made = _made(name, options, _chain(_ascent(o), _l2(options), *rule), reason)
    return Translation(name, dict(o), made.expression, made.status, made.reason, "", made.decays)


def nadam(o: Options, lr: str) -> Translation:
    """Our own transform, since torch's momentum changes with the step; `optax.nadam` in the limit."""
    b1, b2 = o["betas"]
    moments = f"b1={b1!r}, b2={b2!r}, eps={o['eps']!r}"
    if 0.96 ** o["momentum_decay"] < 1e-17:
        scale = f"optax.scale_by_adam({moments}, nesterov=True)"
        reason = "at this large momentum_decay torch's momentum is constant, as it always is in optax.nadam"
    else:
        scale = f"transforms.scale_by_torch_nadam({moments}, momentum_decay={o['momentum_decay']!r})"
        reason = (
            "torch's momentum at step t is b1 (1 - 0.96^(t momentum_decay) / 2), and it corrects the bias by the "
            "product of these. optax.nadam's momentum is b1 at each step"
        )
    rule = _chain(_ascent(o), _l2(o), scale, _decoupled(o), _rate(lr))
    condition = f"{DEFAULT_DTYPE} keeps the product of the momenta in float32"
    return _made("NAdam", o, rule, reason, CONDITIONS, condition)


def radam(o: Options, lr: str) -> Translation:
    """`optax.scale_by_radam`, with eps brought to before the bias correction."""
    b1, b2 = o["betas"]
    scale = (
        f"optax.inject_hyperparams(optax.scale_by_radam, {STATIC})(b1={b1!r}, b2={b2!r}, "
        f"eps=lambda c: {o['eps']!r} / jnp.sqrt(1 - {b2!r} ** (c + 1.0)))"
    )
    reason = "torch adds eps to sqrt(v) before the bias correction, and optax.radam adds it after the correction"
    rule = _chain(_ascent(o), _l2(o), scale, _decoupled(o), _rate(lr))
    if _rectifies_at_a_tie(b2):
        condition = "in float64. In float32, rounding decides at which step the rectification begins"
        return _made("RAdam", o, rule, reason, CONDITIONS, condition)
    return _made("RAdam", o, rule, reason)


def _rectifies_at_a_tie(b2: float) -> bool:
    """Say whether RAdam's rho comes so near to 5 that rounding decides whether it is above."""
    largest = 2 / (1 - b2) - 1
    powers = [b2**t for t in range(1, 101)]
    return any(abs(largest - 2 * t * p / (1 - p) - 5) < 1e-3 for t, p in enumerate(powers, 1) if p < 1)


def rmsprop(o: Options, lr: str) -> Translation:
    """`optax.rmsprop` with torch's decay and eps outside the root; with momentum, the learning rate comes last."""
    scale = "scale_by_stddev" if o["centered"] else "scale_by_rms"
    if o["momentum"]:
        rule = [
            f"optax.{scale}(decay={o['alpha']!r}, eps={o['eps']!r}, eps_in_sqrt=False)",
            f"optax.trace({o['momentum']!r})",
            _rate(lr),
        ]
    else:
        centered = ", centered=True" if o["centered"] else ""
        rule = [f"optax.rmsprop({lr}, decay={o['alpha']!r}, eps={o['eps']!r}, eps_in_sqrt=False{centered})"]
    reason = (
        "torch has decay 0.99 (alpha), adds eps outside the root, and multiplies by the learning rate after momentum. "
        "optax.rmsprop has decay 0.9, adds eps inside the root, and multiplies by the learning rate before momentum"
    )
    made = _chain(_ascent(o), _decay(o["weight_decay"]), *rule)
    if o["centered"] and not 0 < o["alpha"] < 1:
        condition = f"with alpha={o['alpha']!r} the variance is rounding error alone, and the step divides by its root"
        return _made("RMSprop", o, made, reason, APPROXIMATE, condition)
    conditions = [CENTERED] if o["centered"] else []
    conditions += [FED_BACK] if o["momentum"] and o["weight_decay"] else []
    return _made("RMSprop", o, made, reason, CONDITIONS if conditions else EXACT, "; ".join(conditions))


CENTERED = (
    "if each gradient varies over the steps. The variance of a constant gradient is rounding error alone, and the step "
    "divides by its root"
)
FED_BACK = (
    "to within rounding errors, which grow here, in torch too: L2 decay adds the parameters to the gradient, and "
    "momentum sums the errors. After 1,000 replayed gradients of digits the two differ by 6e-7. torch, begun one unit "
    "in the last place away, differs from itself by 5e-7"
)


def adagrad(o: Options, lr: str) -> Translation:
    """The sum of squares as (c + 2) times a mean, since `optax.scale_by_rss` can only add eps inside the root."""
    start = float(o["initial_accumulator_value"])
    slowed = f" / (1 + c * {o['lr_decay']!r})" if o["lr_decay"] else ""
    rule = [
        f"optax.inject_hyperparams(optax.scale_by_rms)(decay=lambda c: 1 - 1 / (c + 2.0), "
        f"eps=lambda c: {o['eps']!r} / jnp.sqrt(c + 2.0), initial_scale={start!r}, eps_in_sqrt=False)",
        f"optax.scale_by_schedule(lambda c: -{_at(lr)}{slowed} / jnp.sqrt(c + 2.0))",
    ]
    reason = (
        "torch's sum of squares starts at 0, and eps = 1e-10 is outside the root. optax.adagrad's sum starts at 0.1, "
        "and eps = 1e-7 is inside the root"
    )
    return _made("Adagrad", o, _chain(_ascent(o), _decay(o["weight_decay"]), *rule), reason)


def adadelta(o: Options, lr: str) -> Translation:
    """`optax.adadelta`, which must be given the learning rate."""
    rule = f"optax.adadelta({lr}, rho={o['rho']!r}, eps={o['eps']!r}, weight_decay={o['weight_decay']!r})"
    reason = "the same rule. optax.adadelta() without a learning rate does not change the sign, so it climbs"
    return _made("Adadelta", o, _chain(_ascent(o), rule), reason)


def adamax(o: Options, lr: str) -> Translation:
    """`optax.adamax` after L2 decay."""
    b1, b2 = o["betas"]
    rule = f"optax.adamax({lr}, b1={b1!r}, b2={b2!r}, eps={o['eps']!r})"
    reason = "the same rule. torch's weight_decay is L2; that of optax.adamaxw is decoupled"
    return _made("Adamax", o, _chain(_ascent(o), _decay(o["weight_decay"]), rule), reason)


def asgd(o: Options, lr: str) -> Translation:
    """Decay by lambd and a falling learning rate; torch computes it at the end of the step before."""
    before = _at(lr, "jnp.maximum(c - 1, 0)")
    falling = f"(1 + {o['lambd']!r} * {before} * c) ** {o['alpha']!r}"
    rule = [_decay(o["lambd"] + o["weight_decay"]), f"optax.scale_by_schedule(lambda c: -{before} / {falling})"]
    reason = (
        "optax has no such optimizer. torch uses a changed learning rate one step late. The average `ax` is not kept"
    )
    condition = f"{DEFAULT_DTYPE} rounds the learning rate to float32"
    return _made("ASGD", o, _chain(_ascent(o), *rule), reason, CONDITIONS, condition)


def rprop(o: Options, lr: str) -> Translation:
    """Our own transform; the learning rate is the first step size alone, so a schedule changes nothing."""
    rule = f"transforms.torch_rprop({_at(lr, '0')}, etas={o['etas']!r}, step_sizes={o['step_sizes']!r})"
    reason = (
        "optax.rprop applies the update of the step before. It compares the sign of a gradient with that of this "
        "update, and torch with that of the gradient before"
    )
    condition = (
        "if no product of two successive gradients underflows, or after torch.set_flush_denormal(True). XLA sets "
        "subnormal numbers to 0; torch keeps them without this setting, and the two differ by 27 after 1,000 steps on "
        "digits"
    )
    return _made("Rprop", o, _chain(_ascent(o), rule), reason, CONDITIONS, condition)


def adafactor(o: Options, lr: str) -> Translation:
    """Our own transform, since optax has no clamps."""
    rule = (
        f"transforms.torch_adafactor({lr}, beta2_decay={o['beta2_decay']!r}, eps={o['eps']!r}, d={o['d']!r}, "
        f"weight_decay={o['weight_decay']!r})"
    )
    reason = (
        "optax.adafactor does not factor axes shorter than 128. It does not limit the learning rate to 1/sqrt(t), or "
        "multiply the decay by the learning rate. It adds 1e-30 where torch takes a maximum"
    )
    condition = (
        "if leaves of three or more axes have torch's order of axes (of a convolution's kernel: outputs, inputs, "
        "height, width), since the last two axes are factored. A matrix may be transposed"
    )
    return _made("Adafactor", o, _chain(_ascent(o), rule), reason, CONDITIONS, condition)


def muon(o: Options, lr: str) -> Translation:
    """Our own transform, since torch iterates in bfloat16."""
    scale = (
        f"transforms.scale_by_torch_muon(momentum={o['momentum']!r}, nesterov={o['nesterov']!r}, "
        f"ns_coefficients={o['ns_coefficients']!r}, eps={o['eps']!r}, ns_steps={o['ns_steps']!r}, "
        f"adjust_lr_fn={o['adjust_lr_fn']!r})"
    )
    reason = (
        "torch iterates in bfloat16, takes matrices alone, and decays by 0.1 by default. optax.contrib.muon iterates "
        "in the parameters' type, corrects the bias of Nesterov's momentum, and does not decay by default"
    )
    condition = (
        "another order of summation changes the last bit of numbers in bfloat16. The first steps agree; later a step "
        "may differ by 1 %. At learning rate 1e-3 parameters differ by 2e-5 after 1,000 replayed steps, and by 2e-3 "
        "after training on digits. Kernels must have torch's order of axes: (outputs, inputs)"
    )
    # torch decays by lr itself, the update's size is adjusted.
    return _made("Muon", o, _chain(scale, _decay(o["weight_decay"]), _rate(lr)), reason, APPROXIMATE, condition)


def lbfgs(o: Options, lr: str) -> Translation:
    """Our own transform without a line search; with one, optax's, which searches otherwise."""
    if o["line_search_fn"]:
        rule = f"optax.lbfgs(memory_size={o['history_size']!r})"
        condition = (
            "the line searches differ: cubic interpolation in torch, zoom in optax. The number of evaluations and the "
            "final value are comparable, single steps are not"
        )
        return _made("LBFGS", o, rule, "optax.lbfgs searches by zoom, from step length 1", APPROXIMATE, condition)
    rule = (
        f"transforms.torch_lbfgs({lr}, history_size={o['history_size']!r}, tolerance_grad={o['tolerance_grad']!r}, "
        f"tolerance_change={o['tolerance_change']!r})"
    )
    reason = (
        "optax.lbfgs keeps 10 pairs, and torch 100, without those of small curvature. optax.lbfgs divides its first "
        "step by the 2-norm of the gradient, and torch by the 1-norm. optax.lbfgs makes a line search by default"
    )
    # The first evaluation is made before the first iteration; after the last one torch makes none.
    evaluations = o["max_iter"] * 5 // 4 if o["max_eval"] is None else o["max_eval"]
    iterations = min(o["max_iter"], max(1, evaluations - 1))
    condition = (
        f"one update is one iteration: make {iterations} on a batch for one step(closure) of torch, which may stop "
        "earlier, where the loss no longer changes"
    )
    return _made("LBFGS", o, rule, reason, CONDITIONS, condition)


def sparse_adam(o: Options, lr: str) -> Translation:
    """Our own transform: rows without a gradient keep their moments."""
    b1, b2 = o["betas"]
    scale = f"transforms.scale_by_torch_sparse_adam(b1={b1!r}, b2={b2!r}, eps={o['eps']!r})"
    reason = "rows that a batch does not use keep their moments and parameters. optax.adam updates them too"
    condition = (
        "if a row of the gradient, along a leaf's first axis, is zero only where the batch does not use it. JAX's "
        "gradients are dense, so a row of zeros is taken for one that was not used"
    )
    return _made("SparseAdam", o, _chain(_ascent(o), scale, _rate(lr)), reason, CONDITIONS, condition)


RULES: dict[str, Callable[[Options, str], Translation]] = {
    "ASGD": asgd,
    "Adadelta": adadelta,
    "Adafactor": adafactor,
    "Adagrad": adagrad,
    "Adam": adam,
    "AdamW": adam,
    "Adamax": adamax,
    "LBFGS": lbfgs,
    "Muon": muon,
    "NAdam": nadam,
    "RAdam": radam,
    "RMSprop": rmsprop,
    "Rprop": rprop,
    "SGD": sgd,
    "SparseAdam": sparse_adam,
}
