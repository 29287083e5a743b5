"""Vega, Vega-Lite and Vega-Embed as one script for a page, so that it draws its charts without a network."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path


def script() -> str:
    """Return the script, as vl-convert bundles it.

    That takes two seconds of a core, so a copy is kept in the user's cache; without one that can be written, it is
    bundled each time.
    """
    import vl_convert

    kept = _cache() / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        if (found := kept.read_text(encoding="utf-8")).endswith(END):
            return found
    # Within a page, this would end the script.
    made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script") + END
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(made, encoding="utf-8")
        part.replace(kept)
    return made


END = "\n// end\n"
"""A file without it was cut off."""


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "jaxopt_study"
