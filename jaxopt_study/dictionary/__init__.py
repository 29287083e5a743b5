"""The optimizer dictionary: torch.optim in optax.

    translate("RMSprop", lr=0.01, momentum=0.9)                a class and its options
    translate(optimizer, model=model, scheduler=scheduler)     a live torch.optim object, its groups and all
    translate("clip_grad_norm_(parameters, 1.0)")              a call: a scheduler, clipping, initializer or average
    translate_schedule(scheduler)                              a live scheduler, as code for a function of the steps
    to_torch("optax.adamw(1e-3)")                              an optimizer of optax, in torch.optim

A name or a call gives a `Translation`, a live object a `LiveTranslation`: `.expression` is the code to paste,
`.status` how exact it is, `.reason` why the function of the same name differs, and `.transformation()` what the code
makes: of an optimizer the `optax.GradientTransformation`. Printed, it is all of that as a script. From the shell:
`python -m jaxopt_study.dictionary RMSprop lr=0.01 momentum=0.9`.

`exact` says that parameters in float32 and in float64 differ by rounding alone, if each parameter of torch's
optimizer has a gradient in each step, and the square of a gradient can be held (in float32, below 1e19). What a live
object has beyond that is in its status and its condition: frozen parameters without names, a scheduler that is not
given, momentum that a scheduler moves, parameters of 16 bits. Complex parameters are refused.

Importing it loads no framework. `rules` holds the translations, `table` the configurations that are checked by
`python -m jaxopt_study.compare --studies dictionary`.
"""

from __future__ import annotations

from typing import Any

from jaxopt_study.dictionary import named
from jaxopt_study.dictionary.allowed import DictionaryError
from jaxopt_study.dictionary.build import build
from jaxopt_study.dictionary.from_optax import to_torch
from jaxopt_study.dictionary.leaves import labels_by_name, trainable
from jaxopt_study.dictionary.live import LiveTranslation, translate_live
from jaxopt_study.dictionary.schedules import translate_schedule
from jaxopt_study.dictionary.table import TABLE
from jaxopt_study.dictionary.translation import Translation

__all__ = [
    "TABLE",
    "DictionaryError",
    "LiveTranslation",
    "Translation",
    "build",
    "labels_by_name",
    "to_torch",
    "trainable",
    "translate",
    "translate_schedule",
]

BESIDE = ("schedule", "scheduler", "every", "model", "labels", "modules", "clip", "accumulate", "loss_divided")
"""What can be given with a live optimizer."""


def translate(optimizer: Any, **options: Any) -> Translation | LiveTranslation:
    """Return what a torch.optim optimizer, or what stands around it, is in optax.

    Args:
        optimizer: The name of a class of `torch.optim` or its `lr_scheduler`, of a function of `torch.nn.init` or a
            clipping; a call of it as it stands in a script; or a live `torch.optim` object, which brings its options.
        **options: Of a named class, what differs from torch's defaults. Of a live object, `scheduler`: its scheduler,
            or `schedule`: a function from the number of steps made to the learning rate; `model`: the module whose
            parameters it has; `modules`: flax's paths of modules, and PyTorch's, where they differ; `labels`: which
            leaf is in which group; `clip`: torch's call of a clipping; `accumulate`: how many batches a step has. See
            `live.translate_live`.

    Raises:
        DictionaryError: There is no such class or option, torch refuses a value, or it cannot be translated.

    Example:
        >>> translation = translate("SGD", lr=0.1, momentum=0.9)
        >>> translation.expression
        'optax.sgd(0.1, momentum=0.9)'
        >>> translate("torch.nn.init.kaiming_normal_(weight, nonlinearity='sigmoid')").expression
        'jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")'
    """
    if isinstance(optimizer, str):
        live = [name for name in options if name in BESIDE and name != "every"]
        if live:
            raise DictionaryError(f"{live[0]}= is of a live optimizer: give the torch.optim object, not its name")
        return named.translate(optimizer, options)
    unknown = [name for name in options if name not in BESIDE]
    if unknown:
        raise DictionaryError(f"a live optimizer brings its own options: {', '.join(unknown)} cannot be given")
    return translate_live(optimizer, **options)
