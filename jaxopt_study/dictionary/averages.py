"""torch.optim.swa_utils: averages of parameters, EMA and SWA, beside an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxopt_study.dictionary.allowed import FRACTION, SWITCH, Allowed, DictionaryError, Options, Table, check, unknown
from jaxopt_study.dictionary.calls import Call, read
from jaxopt_study.dictionary.translation import CONDITIONS, Translation

MODULE = "torch.optim.swa_utils"
DECAY: Table = {"decay": (0.999, FRACTION)}
FUNCTION = Allowed(
    lambda v: v is None or isinstance(v, Call | str),
    "None or a call, as get_ema_multi_avg_fn(0.999): a function of yours is yours to write",
    by_torch=False,
)
FUNCTIONS: Mapping[str, Table] = {
    "get_ema_avg_fn": DECAY,
    "get_ema_multi_avg_fn": DECAY,
    "get_swa_avg_fn": {},
    "get_swa_multi_avg_fn": {},
}
OPTIONS: Mapping[str, Table] = {
    "AveragedModel": {
        "device": (None, Allowed(lambda v: v is None or isinstance(v, int | str | Call), "a device", by_torch=False)),
        "avg_fn": (None, FUNCTION),
        "multi_avg_fn": (None, FUNCTION),
        "use_buffers": (False, SWITCH),
    },
    **FUNCTIONS,
}
PARAMETERS = (
    "give it the parameters alone. Take the statistics of BatchNorm from the model, from which torch copies them"
)
BUFFERS = (
    "give it the parameters and the statistics of BatchNorm in one tree. Leave out whole numbers "
    "(num_batches_tracked), which torch averages in its own way"
)
PLACE = "Call its update where torch calls update_parameters(model)"
ROUNDED = (
    "only if torch.set_default_dtype(torch.float64) was called. Without that call torch rounds 1 / (n + 1) to float32"
)


def translate(name: str, options: Options) -> Translation:
    """Return an average of parameters, `average.init(params)` and `average.update(state, params)`, in code.

    Raises:
        DictionaryError: There is no such option, or the averaging function is not one of torch's own.
    """
    values = check(f"{MODULE}.{name}", OPTIONS[name], options)
    if name in FUNCTIONS:
        chosen, decay = name, values.get("decay")
    else:
        given = [values[option] for option in ("avg_fn", "multi_avg_fn") if values[option] is not None]
        if len(given) > 1:
            raise DictionaryError(f"{MODULE}.AveragedModel refuses both avg_fn and multi_avg_fn")
        chosen, decay = _function(given[0]) if given else ("", None)
    code = f"transforms.averaged_model({'' if decay is None else f'decay={decay!r}'})"
    conditions = [f"{BUFFERS if values.get('use_buffers') else PARAMETERS}. {PLACE}"]
    if chosen in ("", "get_swa_multi_avg_fn"):
        conditions.append(f"in float64{'' if chosen else ' on a GPU'} {ROUNDED}")
    reason = (
        "the first update copies the parameters; the n-th has the weight 1/n. optax has no such average of parameters"
        if decay is None
        else (
            "optax.ema averages updates, and corrects its start at 0. optax.incremental_update is this without the copy"
        )
    )
    shown = {option: value for option, value in values.items() if option != "device"}
    condition = "; ".join(conditions)
    return Translation(name, shown, code, CONDITIONS, reason, condition, module=MODULE, makes="average")


def _function(given: Call | str) -> tuple[str, Any]:
    call = read(given) if isinstance(given, str) else given
    if call.name not in FUNCTIONS:
        raise unknown("averaging function", call.name, FUNCTIONS)
    table = FUNCTIONS[call.name]
    return call.name, check(f"{MODULE}.{call.name}", table, call.by_name(table, target=False)).get("decay")
