"""Tables for a paper: LaTeX with booktabs."""

from __future__ import annotations

import re

from jaxopt_study.report.table import Table
from jaxopt_study.terminal import visible

COMMANDS = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"\\text{name}{{}}" for character, name in COMMANDS.items()},
    **{character: f"{{{character}}}" for character in "[*"},  # after the end of a row, these would be its options
}
"""What stands for a character that LaTeX reads as a command, or prints as another one."""


def escaped(text: str) -> str:
    """Return a text of a user's as LaTeX prints it."""
    plain = "".join(SPECIAL.get(character, character) for character in visible(text))
    return re.sub("-(?=-)", "-{}", plain)  # two hyphens would be a dash


def latex(table: Table, name: str) -> str:
    """Return the table as a float with its title as the caption and the label `tab:NAME`; notes are comments.

    It needs the package booktabs.
    """
    import pandas as pd  # an extra: it is asked for by name

    sides = ["l" if number == 0 or column in table.left else "r" for number, column in enumerate(table.columns)]
    # The columns' own names may be the same, which pandas does not take.
    frame = pd.DataFrame([[escaped(cell) for cell in row] for row in table.rows], columns=range(len(sides)))
    written: str = frame.to_latex(
        index=False,
        header=[escaped(column).replace("{", "{{").replace("}", "}}") for column in table.columns],  # pandas formats it
        escape=False,
        column_format="".join(sides),
        caption=escaped(table.title),
        label=f"tab:{name}",
        position="htbp",
    )
    notes = "".join(f"% {visible(note)}\n" for note in (*table.notes, *table.reasons))
    return f"% Needs \\usepackage{{booktabs}}.\n{written}{notes}"
