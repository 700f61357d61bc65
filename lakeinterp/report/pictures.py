"""Plots as pictures of their own: SVG that any viewer of images shows, without a page around it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from lakeinterp.report import plots, words

if TYPE_CHECKING:
    from lakeinterp.report.plots import Densities, Histogram
    from lakeinterp.report.records import Summary

_OWN, _NULL, _AXIS, _TEXT = "#2a6fdb", "#b2560d", "#8a8f98", "#3c4149"
_TITLE = 20
"""Height above the plot for its title."""


def scores_picture(summary: Summary, title: str) -> str:
    """Return a histogram of latents by score, the null as an outline, as SVG text."""
    plot = plots.histogram(summary)
    return _picture(plot, title, plots.histogram_words(summary), _histogram(plot))


def density_picture(summary: Summary, title: str) -> str:
    """Return the score's median and quartiles by density of the latents, as SVG text."""
    plot = plots.density_plot(summary)
    return _picture(plot, title, plots.density_words(summary), _densities(plot))


def _histogram(plot: Histogram) -> list[str]:
    marks = [
        f'<rect x="{b.x}" y="{b.y}" width="{b.width}" height="{b.height}" fill="{_OWN}"/>'
        for b in plot.own
    ]
    if plot.null_path:
        marks.append(f'<path d="{plot.null_path}" fill="none" stroke="{_NULL}" stroke-width="2"/>')
    marks.append(f'<path d="M{plot.left} {plot.base}H{plot.right}" stroke="{_AXIS}"/>')
    marks += [_text(t.x, plot.base + 14, "middle", t.text) for t in plot.ticks]
    most = f"most in a bar: {words.latents(plot.largest)}; outline: null"
    return [*marks, _text(plot.left, 10, "start", most)]


def _densities(plot: Densities) -> list[str]:
    marks = []
    for rung in plot.rungs:
        line = f"M{plot.left} {rung.x}H{plot.right}"
        marks.append(f'<path d="{line}" stroke="{_AXIS}" stroke-opacity="0.4"/>')
        marks.append(_text(plot.left - 6, rung.x + 4, "end", rung.text))
    for dot in plot.dots:
        line = f"M{dot.x} {dot.high}V{dot.low}"
        marks.append(f'<path d="{line}" stroke="{_OWN}" stroke-width="2"/>')
        marks.append(f'<circle cx="{dot.x}" cy="{dot.middle}" r="4" fill="{_OWN}"/>')
    return marks + [_text(t.x, plot.height - 4, "middle", t.text) for t in plot.ticks]


def _picture(plot: Histogram | Densities, title: str, label: str, marks: list[str]) -> str:
    width, height = plot.width, plot.height + _TITLE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{2 * width}" height="{2 * height}" role="img" aria-label={quoteattr(label)} '
        'font-family="system-ui, sans-serif" font-size="9">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="6" y="14" font-size="10" font-weight="600" fill="{_TEXT}">{escape(title)}</text>'
        f'<g transform="translate(0 {_TITLE})">{"".join(marks)}</g></svg>'
    )


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{_TEXT}">{escape(text)}</text>'
