"""The report's plots and tables as files: SVG and PNG, CSV and Parquet.

Plots are drawn by the page's own templates; resvg, of the extra `web`, makes PNG from them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import ConfigError, MissingExtra
from lakeinterp.lake import queries
from lakeinterp.report import plots, words
from lakeinterp.report.output import write_result
from lakeinterp.report.page import environment
from lakeinterp.report.reader import N_BINS, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.report.records import Summary

STYLE = (
    "text{font:11px system-ui,'DejaVu Sans',Arial,sans-serif;fill:#565d66}.ground{fill:#fff}"
    ".own{fill:#1a5a9e}.nul{fill:none;stroke:#565d66;stroke-width:1.25}"
    ".axis{fill:none;stroke:#dfe2e6}.quart{fill:none;stroke:#1a5a9e;stroke-width:2}"
)
"""Of a plot that is a file of its own; its colours are the page's light ones."""
_ZOOM = 4
"""Dots of a PNG for each unit of its SVG."""
_ALL = 2**31 - 1
_TEXT = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20">'
    '<text x="2" y="15" font-family="sans-serif">0</text></svg>'
)


def write_plots(
    lake: Lake, folder: str | Path, config: Config, *, capture: str | None = None
) -> list[Path]:
    """Write each hookpoint's plots, every one as SVG and as PNG.

    Args:
        lake: The lake.
        folder: Where the files go; it is made. Files of the same names are replaced.
        config: `score.headline` is the metric.
        capture: Name; None takes the only one there is.

    Returns:
        The paths of the files.

    Raises:
        MissingExtra: resvg is not installed.
        ConfigError: this machine has no font.
        NotFound: no such capture; or no score has the metric `score.headline`.
    """
    _require_font()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    found = []
    with Reader(lake, config, capture) as reader:
        for hookpoint, summaries in reader.summaries().items():
            for one in summaries:
                stem = _file_name(hookpoint, *_pair(one), reader.metric)
                for kind, svg in _drawn(one, words.metric_name(reader.metric)):
                    place = target / f"{stem}-{kind}.svg"
                    place.write_text(svg, encoding="utf-8")
                    picture = place.with_suffix(".png")
                    picture.write_bytes(_png(svg))
                    found += [place, picture]
    return found


def write_tables(
    lake: Lake, folder: str | Path, config: Config, *, capture: str | None = None
) -> list[Path]:
    """Write the tables that the page is made of, every one as CSV and as Parquet.

    Takes and returns what `write_plots` does.

    Raises:
        NotFound: no such capture; or no score has the metric `score.headline`.
    """
    target = Path(folder)
    found = []
    with Reader(lake, config, capture) as reader:
        for name, values in _tables(reader).items():
            query = queries.load(f"report/{name}")
            for format in ("csv", "parquet"):
                relation = reader.con.sql(query.sql, params=values)
                place = target / f"{name}.{format}"
                write_result(relation, format=format, output=place)
                found.append(place)
    return found


def _tables(reader: Reader) -> dict[str, dict[str, Any]]:
    """Return the statements of the tables, each with its values."""
    one = {"capture": reader.name}
    metric = {**one, "metric": reader.metric}
    pair = {"explainer": reader.headline.explainer, "scorer": reader.headline.scorer}
    return {
        "hookpoints": one,
        "status_counts": one,
        "explanation_counts": one,
        "costs": one,
        "score_summary": metric,
        "score_by_density": metric,
        "score_histogram": {**metric, "low": -1.0, "high": 1.0, "n_bins": 2 * N_BINS},
        "latents": {**metric, **pair, "scored": True, "ascending": False, "n_rows": _ALL},
        "unexplained": {**metric, "n_listed": 1000, "n_groups": 1000},
    }


def _drawn(summary: Summary, metric: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the SVG of each of a summary's plots."""
    draw: Any = environment().get_template("overview.html").module
    if summary.histogram:
        label = f"{summary.pair}, {metric}. {plots.histogram_words(summary)}"
        yield "scores", _svg(draw.histogram(plots.histogram(summary), label, STYLE))
    if len(summary.by_density) > 1:
        label = f"{summary.pair}, {metric}. {plots.density_words(summary)}"
        yield "density", _svg(draw.densities(plots.density_plot(summary), label, STYLE))


def _svg(markup: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{markup.strip()}\n'


def _png(svg: str) -> bytes:
    """Return an SVG as the bytes of a PNG."""
    try:
        import resvg_py
    except ModuleNotFoundError as exc:
        raise MissingExtra("--plots", "web", "resvg_py") from exc
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=_ZOOM, background="#ffffff"))


def _require_font() -> None:
    """Refuse a machine on which every text of a PNG would be missing."""
    if _png(_TEXT) == _png(_TEXT.replace(">0<", "> <")):
        raise ConfigError("--plots: this machine has no font; install one, as fonts-dejavu-core")


def _pair(summary: Summary) -> tuple[str, str]:
    return summary.pair.explainer, summary.pair.scorer


def _file_name(*parts: str) -> str:
    """Return parts as one file name: letters, digits, dots and dashes."""
    return "-".join(re.sub(r"[^\w.]+", "_", part) for part in parts)
