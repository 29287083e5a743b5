"""The documentation site: `python -m sphinx -W docs docs/_build/html` executes the lesson, and caches its outputs."""

import re

from jaxopt_study import __version__

project = "jaxopt_study"
author = copyright = "The jaxopt_study developers"  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "results"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["lesson.css"]
html_title = f"jaxopt_study {version}"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600

default_role = "code"  # docstrings have single backticks
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # what a docstring says of its arguments is enough, and shapes are long
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as a list
napoleon_attr_annotations = False


ATTRIBUTES = {}  # name -> lines


def plain(app, what, name, found, options, lines):
    """Read a docstring as plain text with code in backticks: `*` and `|` stand for themselves outside of examples.

    Of a module, the first line is enough: what follows lists its files or functions.
    """
    if what == "module":
        del lines[1:]
    example = False
    for place, line in enumerate(lines):
        example = line.lstrip().startswith(">>> ") or (example and bool(line.strip()))
        if not example:
            lines[place] = re.sub(r"(`[^`]*`)|([*|])|(--[a-z][a-z-]+)", _quoted, line)
        if line == "Example:" and not lines[place + 1].lstrip().startswith(">>> "):
            lines[place : place + 1] = ["Example::", ""]
    if what == "attribute":
        ATTRIBUTES[name] = list(lines)


def _quoted(found):
    code, special, option = found.groups()
    return code or (f"\\{special}" if special else f"`{option}`")


def attribute(app, what, name, found, options, lines):
    """Take back what napoleon does to an attribute's docstring: it takes the words before a colon for a type."""
    if name in ATTRIBUTES:
        lines[:] = ATTRIBUTES.pop(name)


def unexplained(app, what, name, found, skip, options):
    """Leave out the fields of named tuples: the class's docstring has them."""
    return True if (getattr(found, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app):
    """Register what docstrings need, before and after napoleon."""
    app.connect("autodoc-process-docstring", plain, priority=100)
    app.connect("autodoc-process-docstring", attribute, priority=900)
    app.connect("autodoc-skip-member", unexplained)
