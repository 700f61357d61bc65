"""Templates and assets of the served page: those of the report, and pages around them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from lakeinterp.report import page, words

if TYPE_CHECKING:
    from datetime import datetime

WEB_TEMPLATES = Path(__file__).parent / "templates"
_SNIPPET = 90
"""Characters of a window shown beside a judged item."""
_CELL = 2000
"""Characters of one value of a result."""


def environment() -> jinja2.Environment:
    """Return the report's templates and, below `web/`, the served pages that use them."""
    found = page.environment()
    own = jinja2.PrefixLoader({"web": jinja2.FileSystemLoader(WEB_TEMPLATES)})
    assert found.loader is not None
    found.loader = jinja2.ChoiceLoader([own, found.loader])
    found.filters.update(_FILTERS)
    return found


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the server's own that pages load."""

    text: str
    media: str

    @property
    def address(self) -> str:
        """Path with a digest of the content, so that a browser may keep it for ever."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:12]
        return f"/static/{digest}.{self.media.rpartition('/')[2].partition('+')[0]}"


def assets() -> list[Asset]:
    """Return the style, the script and the icon."""
    style = [folder / "style.css" for folder in (page.TEMPLATES, WEB_TEMPLATES)]
    return [
        Asset("\n".join(path.read_text(encoding="utf-8") for path in style), "text/css"),
        Asset((WEB_TEMPLATES / "web.js").read_text(encoding="utf-8"), "text/javascript"),
        Asset((WEB_TEMPLATES / "icon.svg").read_text(encoding="utf-8"), "image/svg+xml"),
    ]


def _when(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _snippet(text: str) -> str:
    """Return the beginning of a window on one line."""
    shown = " ".join(text.replace("⏎", " ").split())
    return shown if len(shown) <= _SNIPPET else shown[: _SNIPPET - 1] + "…"


def _cell(text: str) -> str:
    """Return a value of a result, safe to show; what is very long is cut."""
    shown = words.visible(text)
    return shown if len(shown) <= _CELL else shown[: _CELL - 1] + "…"


_FILTERS = {
    "when": _when,
    "snippet": _snippet,
    "cell": _cell,
    "visible": words.visible,
    "dollars": words.dollars,
    "saved_name": lambda name: name.rpartition("/")[2].replace("_", " "),
}
