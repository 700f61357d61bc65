"""Settings of the site: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import reference  # noqa: E402 - beside this file

import lakeinterp  # noqa: E402 - of the checkout

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "lakeinterp"
release = version = lakeinterp.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = "lakeinterp"
html_show_copyright = False
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
copybutton_prompt_text = "$ "
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# DuckDB has more words than the highlighter knows.
suppress_warnings = ["misc.highlighting_failure"]
nitpicky = False


def setup(app: Sphinx) -> None:
    """Write the pages of the reference before the others are read."""
    app.connect("builder-inited", lambda _app: reference.write(HERE / "reference"))
