"""How latents changed over time: rows of `sql/report/drift.sql`, a table and a plot."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import log10
from typing import TYPE_CHECKING

from lakeinterp import registry
from lakeinterp.lake import queries, where
from lakeinterp.report import words
from lakeinterp.report.terminal import plain, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import duckdb
    from rich.table import Table

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _GAP = 640, 150, 56, 20, 26, 34
_FAINT = 3
"""Latents of one plot above which each is a faint line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A latent at one moment and the moment before; see `sql/report/drift.sql`."""

    hookpoint: str
    latent: int
    moment: int
    """From 1."""
    at: datetime
    n_tokens: int | None
    density: float | None
    density_before: float | None
    overlap: float | None
    """Of the top tokens with those before; 1 if they are the same."""
    status: str | None
    status_before: str | None
    value: float | None
    value_before: float | None
    ci_low: float | None
    ci_high: float | None
    explanation: str | None
    text: str | None
    is_new_text: bool
    top_tokens: Sequence[int] | None
    """Their ids, the most frequent first; None if it was not counted by then."""

    @property
    def change(self) -> float | None:
        """Difference of the score, None if there is none before."""
        both = self.value is not None and self.value_before is not None
        return self.value - self.value_before if both else None  # type: ignore[operator]


def drift(
    lake: Lake,
    config: Config,
    *,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    latents: Sequence[int] = (),
) -> list[Moment]:
    """Return how latents changed, by hookpoint, latent and moment.

    Args:
        lake: The lake.
        config: Its explainer, first scorer and that scorer's main metric.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        latents: Only these; empty takes all.

    Raises:
        NotFound: there is no such capture, or no such scorer.
    """
    con, query = relation(lake, config, capture, hookpoints, latents)
    with con:
        return [Moment(**row) for row in query.to_arrow_table().to_pylist()]


def relation(
    lake: Lake,
    config: Config,
    capture: str | None,
    hookpoints: Sequence[str] = (),
    latents: Sequence[int] = (),
) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation]:
    """Return the rows of `drift` as a DuckDB relation, with the connection to close after it."""
    name = str(lake.capture(capture)["capture"])
    scorer = registry.resolve("scorer", config.score.scorers[0])
    con = lake.connect(**dict.fromkeys(("history", "scores", "explanations"), where(capture=name)))
    values = {
        "capture": name,
        "hookpoints": list(hookpoints),
        "latents": list(latents),
        "explainer": config.explain.explainer,
        "scorer": config.score.scorers[0],
        "metric": scorer.headline,
    }
    return con, con.sql(queries.load("report/drift").sql, params=values)


def shown(moments: Sequence[Moment], *, n: int = 30) -> Table:
    """Return a table for people: the newest moments, the largest change of a score first."""
    made = table("latent", "at", "tokens", "density", "top tokens", "score", "change", "text")
    newest = {(m.hookpoint, m.latent): m for m in moments}
    order = sorted(newest.values(), key=lambda m: (-abs(m.change or 0), m.hookpoint, m.latent))
    for one in order[:n]:
        made.add_row(
            plain(f"{one.hookpoint} {one.latent}"),
            f"{one.at:%m-%d %H:%M}",
            words.count(one.n_tokens),
            _before(one.density_before, one.density, words.share),
            "" if one.overlap is None else f"{100 * one.overlap:.0f} % kept",
            _before(one.value_before, one.value, words.score),
            f"{one.change:+.2f}".replace("-", "−") if one.change else "",
            "new" if one.is_new_text else "",
        )
    return made


def _before(before: float | None, now: float | None, word: Callable[[float | None], str]) -> str:
    return word(now) if before is None or before == now else f"{word(before)} → {word(now)}"


# -- the plot ---------------------------------------------------------------------------------


def plot(moments: Sequence[Moment]) -> str:
    """Return a picture of scores and densities over time as SVG.

    One latent shows each score with its interval; several a line each.

    Args:
        moments: As `drift` returns them, of one latent or several.
    """
    series: dict[tuple[str, int], list[Moment]] = {}
    for one in moments:
        series.setdefault((one.hookpoint, one.latent), []).append(one)
    times = sorted({one.at for one in moments})
    place = {at: _across(i, len(times)) for i, at in enumerate(times)}
    height = _TOP + 2 * _PANEL + _GAP + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="11" role="img">',
        f"<title>{escape(_title(series))}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="16" font-size="13">{escape(_title(series))}</text>',
        *_scores(series, place),
        *_densities(series, place),
    ]
    every = 1 + len(times) // 7
    parts += [
        f'<text x="{place[at]:.1f}" y="{height - 8}" text-anchor="middle">{at:%m-%d %H:%M}</text>'
        for at in times[::every]
    ]
    return "\n".join([*parts, "</svg>", ""])


def _across(i: int, n: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (i + 0.5) / max(1, n)


def _title(series: dict[tuple[str, int], list[Moment]]) -> str:
    if len(series) == 1:
        ((hookpoint, latent),) = series
        return f"{hookpoint} {latent}: score and density over time"
    return f"Score and density of {len(series)} latents over time"


def _scores(series: dict[tuple[str, int], list[Moment]], place: dict[datetime, float]) -> list[str]:
    def down(value: float) -> float:
        return _TOP + _PANEL * (1 - min(1.0, max(0.0, value)))

    parts = _axis(_TOP, [(down(v), f"{v:g}") for v in (0, 0.25, 0.5, 0.75, 1)], "score")
    for mine in series.values():
        found = [(place[m.at], down(m.value), m) for m in mine if m.value is not None]
        parts += _line([(x, y) for x, y, _ in found], "#1f6f8b", faint=len(series) > _FAINT)
        for x, y, m in found if len(series) <= _FAINT else ():
            if m.ci_low is not None and m.ci_high is not None:
                parts.append(
                    f'<path d="M{x:.1f} {down(m.ci_low):.1f}V{down(m.ci_high):.1f}" '
                    'stroke="#1f6f8b" stroke-width="1.5"/>'
                )
            fill = "#c8553d" if m.is_new_text else "#1f6f8b"
            said = f"{m.at:%Y-%m-%d %H:%M}: {words.score(m.value)} {m.text or ''}"
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}">'
                f"<title>{escape(words.one_line(said))}</title></circle>"
            )
    return parts


def _densities(
    series: dict[tuple[str, int], list[Moment]], place: dict[datetime, float]
) -> list[str]:
    top = _TOP + _PANEL + _GAP
    logs = [log10(m.density) for mine in series.values() for m in mine if m.density]
    low, high = (min(logs), max(logs)) if logs else (-4.0, -3.0)
    low, high = (low - 0.1, high + 0.1)

    def down(density: float) -> float:
        return top + _PANEL * (1 - (log10(density) - low) / (high - low))

    steps = [10 ** (low + (high - low) * i / 3) for i in range(4)]
    parts = _axis(top, [(down(s), words.share(s)) for s in steps], "density")
    for mine in series.values():
        found = [(place[m.at], down(m.density)) for m in mine if m.density]
        parts += _line(found, "#6b705c", faint=len(series) > _FAINT)
    return parts


def _axis(top: float, rungs: Sequence[tuple[float, str]], name: str) -> list[str]:
    parts = [f'<text x="{_LEFT}" y="{top - 5:.1f}" fill="#666">{name}</text>']
    for y, text in rungs:
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#666">{text}</text>'
        )
    return parts


def _line(points: Sequence[tuple[float, float]], colour: str, *, faint: bool) -> list[str]:
    if not points:
        return []
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    opacity = 0.25 if faint else 1
    return [
        f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="{opacity}"/>'
    ]
