"""The bridges room: what other tools have stored, into the lake and out of it.

A bridge is a function by name: `module:function` strings, imported on use. A new one is a module
of this room and a line in `IMPORTS` or `EXPORTS`; `lakeinterp import --help` and `lakeinterp export
--help` list them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

from lakeinterp.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.bridges.base import Exporter, Importer


class Bridge(NamedTuple):
    """A format that is read or written."""

    target: str
    """`module:function` below this package."""
    about: str
    """What it is, for people who choose one."""


IMPORTS = {
    "delphi": Bridge("delphi.reading:import_cache", "a latent cache of delphi, as a capture"),
    "delphi-results": Bridge(
        "delphi.results_reading:import_results",
        "explanations and scores of a delphi run; scores are computed anew from its judged texts",
    ),
    "saedashboard": Bridge(
        "saedashboard:import_dashboards", "`batch-N.json` of SAEDashboard: windows to explain"
    ),
    "neuronpedia-explanations": Bridge(
        "neuronpedia.explanations:import_explanations",
        "explanations of Neuronpedia or AxBench as JSONL, gzipped or not",
    ),
}
"""Formats that are read, each by a function as `lakeinterp.bridges.base.Importer` describes it."""
EXPORTS = {
    "delphi": Bridge("delphi.writing:export_cache", "a latent cache of delphi"),
    "delphi-results": Bridge(
        "delphi.results_writing:export_results",
        "explanations and judged texts as the files of a delphi run",
    ),
    "neuronpedia": Bridge(
        "neuronpedia.bulk:export_sources",
        "whole sources for Neuronpedia's importer: latents, windows, explanations",
    ),
    "neuronpedia-upload": Bridge(
        "neuronpedia.upload:export_uploads",
        "bodies of Neuronpedia's upload call as JSON files; nothing is sent",
    ),
    "circuit-tracer": Bridge(
        "files:export_circuits", "feature pages of circuit-tracer's viewer, a file a latent"
    ),
    "openai-neurons": Bridge(
        "files:export_neurons", "NeuronRecords of OpenAI's neuron explainer, a file a latent"
    ),
    "csv": Bridge("tables:export_csv", "explanations and scores as CSV"),
    "jsonl": Bridge("tables:export_jsonl", "explanations and scores as JSONL"),
    "parquet": Bridge("tables:export_parquet", "explanations and scores as Parquet"),
    "dataset": Bridge(
        "tables:export_dataset",
        "explanations and scores as a Hugging Face dataset: Parquet and a card",
    ),
}
"""Formats that are written, each by a function as `lakeinterp.bridges.base.Exporter` does."""


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


def listed(table: Mapping[str, Bridge]) -> str:
    """Return the formats of a table as text for help."""
    return "; ".join(f"`{name}`: {bridge.about}" for name, bridge in table.items())


def _resolve(name: str, table: Mapping[str, Bridge], kind: str) -> object:
    if name not in table:
        raise NotFound(kind, name, table)
    module, _, attribute = table[name].target.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)
