"""A call of torch as it stands in a script, `torch.optim.AdamW(params, lr=1e-3)`: read, and nothing of it evaluated."""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxopt_study.dictionary.allowed import PREFIXES, DictionaryError, Table, short

LONGEST, LONGEST_CALL = 300, 1_000
"""Characters of a value and of a call that are read; a longer one is a mistake, and Python's parser may not end it."""
TARGETS = ("params", "parameters", "optimizer", "tensor", "model")
"""torch's names of what a function works on: an object, which no option says."""
ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
"""What is computed, as 10 * 5 in a script."""
INFINITE = {"inf": math.inf, "float('inf')": math.inf, "-inf": -math.inf, "float('-inf')": -math.inf}
INFINITE |= {f"{module}.inf": math.inf for module in ("math", "torch", "np", "numpy")}


class _Unread:
    """What stands for an argument that is no literal: the parameters of an optimizer, say."""


UNREAD = _Unread()


@dataclass(frozen=True)
class Call:
    """A call: the name of the function without its modules, and its arguments, in place and by name."""

    name: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        words = [repr(v) for v in self.arguments if v is not UNREAD]
        return f"{self.name}({', '.join([*words, *(f'{n}={v!r}' for n, v in self.options.items())])})"

    def by_name(self, table: Table, target: bool = True) -> dict[str, Any]:
        """Return the arguments by the names of a function's options.

        Args:
            table: The options, in torch's order.
            target: Whether the function's first argument in torch is what it works on, and no option.

        Raises:
            DictionaryError: There are too many arguments, one is given twice, or the first is not what it works on.
        """
        given, names = list(self.arguments), list(table)
        if target and given and not isinstance(given.pop(0), _Unread | Call):
            raise DictionaryError(f"{self!r} begins with an option: write its first argument, or OPTION=VALUE")
        if len(given) > len(names):
            raise DictionaryError(f"{self!r} has {len(given)} options without a name, of {len(names)}")
        pairs = zip(names, given, strict=False)
        found = {name: value for name, value in pairs if value is not UNREAD or name not in TARGETS}
        if twice := sorted(found.keys() & self.options.keys()):
            raise DictionaryError(f"{self!r} has {twice[0]} twice")
        if unread := [name for name, value in found.items() if value is UNREAD]:
            raise DictionaryError(f"{unread[0]} of {self.name} cannot be read: write its value, such as lr=1e-3")
        return found | dict(self.options)


CLOSING = {"(": ")", "[": "]", "{": "}"}


def _no_call(text: str) -> DictionaryError:
    if (missing := _missing(text)) and len(text) <= LONGEST:
        return DictionaryError(f"{text!r} cannot be read: a closing bracket is missing, write {text + missing!r}")
    return DictionaryError(f"{short(text)} cannot be read: write a call with plain values, such as Adam(lr=1e-3)")


def _missing(text: str) -> str:
    """Return the closing brackets with which a text is an expression; nothing where there are none."""
    opened: list[str] = []
    for character in text:
        if character in CLOSING:
            opened.append(character)
        elif opened and character == CLOSING[opened[-1]]:
            opened.pop()
    closing = "".join(CLOSING[bracket] for bracket in reversed(opened))
    try:
        _parsed(text + closing)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return closing


def read(text: str) -> Call:
    """Read a call of literals, lists and further calls.

    Raises:
        DictionaryError: It is none.

    Example:
        >>> read("torch.optim.lr_scheduler.StepLR(optimizer, 10, gamma=0.5)").options
        {'gamma': 0.5}
    """
    if len(text) > LONGEST_CALL:
        raise _no_call(text)
    try:
        node = _parsed(text)
        if not isinstance(node, ast.Call):
            raise _no_call(text)
        call = _call(node)
    except (ValueError, TypeError, ArithmeticError, SyntaxError, MemoryError, RecursionError) as error:
        if isinstance(error, DictionaryError):
            raise
        raise _no_call(text) from None
    if any(map(_underflows, re.findall(r"[\d.]+[eE]-\d+", text))):
        raise DictionaryError(f"{short(text)} has a number below the smallest that can be held")
    return call


def value(option: str, text: str) -> Any:
    """Read the value of an option: a Python literal, a call, numbers with commas between, or a word.

    Raises:
        DictionaryError: It is too long, or a number that is too small.
    """
    if len(text) > LONGEST:
        raise DictionaryError(f"the value of {option} has {len(text)} characters: at most {LONGEST} are read")
    if any(map(_underflows, text.split(","))):
        raise DictionaryError(f"{option}={text} is below the smallest number that can be held")
    try:
        return _value(_parsed(text))
    except (ValueError, TypeError, ArithmeticError, SyntaxError, MemoryError, RecursionError):
        lowered = {"true": True, "false": False, "none": None}
        if text.lower() in lowered:
            return lowered[text.lower()]
    try:
        return float(text)  # nan, inf and the like
    except ValueError:
        return text


def _parsed(text: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python finds odd in a user's text is no line of ours
        return ast.parse(text.strip(), mode="eval").body


def _call(node: ast.Call) -> Call:
    name, names = ast.unparse(node.func), [k.arg for k in node.keywords]
    if None in names or len(set(names)) < len(names) or not re.fullmatch(r"[\w.]+", name):
        raise ValueError(name)
    options = {str(k.arg): _read_by_name(k) for k in node.keywords if k.arg not in TARGETS}
    return Call(re.sub(PREFIXES, "", name), tuple(map(_or_unread, node.args)), options)


def _read_by_name(keyword: ast.keyword) -> Any:
    try:
        return _value(keyword.value)
    except (ValueError, TypeError, ArithmeticError):
        words = f"{keyword.arg}={ast.unparse(keyword.value)}"
        raise DictionaryError(f"{short(words)} cannot be read: write its value, such as lr=1e-3") from None


def _or_unread(node: ast.expr) -> Any:
    try:
        return _value(node)
    except (ValueError, TypeError, ArithmeticError):
        return UNREAD


def _value(node: ast.expr) -> Any:
    if ast.unparse(node) in INFINITE:
        return INFINITE[ast.unparse(node)]
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.List | ast.Tuple):
        return tuple(map(_value, node.elts))
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        return ARITHMETIC[type(node.op)](_number(node.left), _number(node.right))
    return ast.literal_eval(node)


def _number(node: ast.expr) -> float:
    number = _value(node)
    if not isinstance(number, int | float) or abs(number) > 1e15:
        raise ValueError(ast.unparse(node))
    return number


def _underflows(number: str) -> bool:
    """Say whether a number that is not 0 would be read as 0."""
    try:
        return float(number) == 0 and bool(re.search("[1-9]", number.lower().partition("e")[0]))
    except ValueError:
        return False
