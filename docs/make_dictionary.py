"""Write docs/dictionary.md from the optimizer dictionary.

    python docs/make_dictionary.py

No line of the page is typed by hand.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from jaxopt_study.dictionary import TABLE, translate
from jaxopt_study.dictionary.translation import Translation

PAGE = Path(__file__).with_name("dictionary.md")
HEAD = """# The optimizer dictionary

`python docs/make_dictionary.py` writes this page from `jaxopt_study.dictionary`.
It has the {count} configurations of `torch.optim` that are checked, and their
code in optax. Any other configuration:

    python -m jaxopt_study.dictionary "RMSprop(lr=0.01, momentum=0.9)"
    python -m jaxopt_study.dictionary optax.adamw learning_rate=1e-3

`exact`: with the same gradients, the parameters differ by rounding alone.
`exact under conditions`: so they do where the condition below the code holds.
`approximate`: they differ by more; the lines below the code say why. Names
after `transforms.` are in `jaxopt_study.dictionary.transforms`.
`python -m jaxopt_study.compare --studies dictionary` measures all differences.

| torch.optim | in optax | configurations | how optax's function of this name differs |
|---|---|---|---|
"""


def page() -> str:
    """Return the text of the page."""
    classes = [
        (name, [(row.key, translate(row.name, **row.options)) for row in rows])
        for name, rows in groupby(TABLE, key=lambda row: row.name)
    ]
    lines = [line(name, [translation for _, translation in found]) for name, found in classes]
    return "\n".join([HEAD.format(count=len(TABLE)) + "\n".join(lines), *(section(*found) for found in classes)])


def line(name: str, found: list[Translation]) -> str:
    """Return the class's row of the overview."""
    statuses = ", ".join(dict.fromkeys(translation.status for translation in found))
    reason = found[0].reason.replace("|", "\\|")
    return f"| [{name}](#{name.lower()}) | {statuses} | {len(found)} | {reason} |"


def section(name: str, found: list[tuple[str, Translation]]) -> str:
    """Return the configurations of a class, each with its code and its condition."""
    parts = [f"\n## {name}"]
    for key, translation in found:
        parts.append(f"`{key}`: {translation.status}.\n\n```python\n{translation.expression}\n```")
        if translation.condition:
            parts.append(f"Condition: {translation.condition}.")
        if translation.reason != found[0][1].reason:
            parts.append(f"Note: {translation.reason}.")
    return "\n\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page() + "\n", encoding="utf-8")
