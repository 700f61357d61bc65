"""The bridges room: what other tools have stored, into the lake and out of it.

A bridge is a function by name: `module:function` strings, imported on use. A new one is a module
of this room and a line in `IMPORTS` or `EXPORTS`; `lakeinterp import` and `lakeinterp export` list
them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from lakeinterp.errors import NotFound

if TYPE_CHECKING:
    from lakeinterp.bridges.base import Exporter, Importer

IMPORTS = {"delphi": "lakeinterp.bridges.delphi.reading:import_cache"}
"""Formats that are read, each to a function as `lakeinterp.bridges.base.Importer` describes it."""
EXPORTS = {"delphi": "lakeinterp.bridges.delphi.writing:export_cache"}
"""Formats that are written, each to a function as `lakeinterp.bridges.base.Exporter` does."""


def importer(name: str) -> Importer:
    """Return the function that reads a format.

    Raises:
        NotFound: there is none; the message lists those there are.
    """
    return cast("Importer", _resolve(name, IMPORTS, "import format"))


def exporter(name: str) -> Exporter:
    """Return the function that writes a format.

    Raises:
        NotFound: there is none; the message lists those there are.
    """
    return cast("Exporter", _resolve(name, EXPORTS, "export format"))


def _resolve(name: str, table: dict[str, str], kind: str) -> object:
    if name not in table:
        raise NotFound(kind, name, table)
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
