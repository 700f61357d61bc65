"""Pieces of terminal output that summary and status share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lakeinterp.report import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

_LONGEST = 240
"""Characters of an explanation shown in a table."""
_NARROWEST = 12
"""Characters that a table's first column keeps on a narrow terminal."""


def table(first: str, *rest: str) -> Table:
    """Return a table whose first column is text and whose others are numbers kept whole."""
    made = bare_table()
    made.add_column(first, overflow="fold", min_width=_NARROWEST)
    for name in rest:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def bare_table() -> Table:
    """Return a table without columns, in the style of all tables."""
    return Table(
        box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim"
    )


def indented(what: RenderableType) -> RenderableType:
    """Set something off from the left, with an empty line above."""
    return Padding(what, (1, 0, 0, 2))


def lines(pairs: Iterable[tuple[str, str]]) -> RenderableType:
    """Return names with their texts; a long text stays in its own column."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in pairs:
        grid.add_row(Text(name), plain(text))
    return Padding(grid, (0, 0, 0, 2))


def heading(name: str, more: str = "") -> Text:
    """Return a heading, with a remark in plain type."""
    text = Text(words.one_line(name), style="bold")
    return Text.assemble(text, f"  {words.one_line(more)}" if more else "")


def plain(text: str) -> Text:
    """Return a text of any origin on one line, safe for a terminal and shortened if long."""
    shown = words.one_line(text)
    return Text(shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…")
