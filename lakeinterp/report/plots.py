"""Where the marks of a plot stand, in the units of its SVG; templates draw them."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, log10
from typing import TYPE_CHECKING, Any

from lakeinterp.report import words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lakeinterp.report.drift import Moment
    from lakeinterp.report.records import Bin, DensityStep, Hookpoint, Summary

WIDTH, HEIGHT = 272, 130
_MOST_TICKS = 5
"""Densities named under a plot; more would run into each other."""
_LEFT, _RIGHT, _TOP, _BASE = 14, WIDTH - 14, 18, HEIGHT - 20
_BAR_LEFT, _BAR_WIDTH = 4.0, 152.0
_WIDEST = 32.0
"""Width of a bar of activations where there are few."""
_DENSITY_LEFT = 40
_STATUS_CSS = {"ok": "s-ok", "dense": "s-dense", "rare": "s-rare", "dead": "s-dead"}


@dataclass(frozen=True, slots=True)
class Tick:
    """A label on an axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Latents by score as bars, by null as an outline over them."""

    own: tuple[Bar, ...]
    null_path: str
    ticks: tuple[Tick, ...]
    largest: int
    counted: str = "latents"
    """What the bars count."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    base: int = _BASE


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its range; heights count downwards."""

    x: float
    low: float
    middle: float
    high: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Densities:
    """Values with their ranges: scores by density, or what was measured over time."""

    dots: tuple[Dot, ...]
    rungs: tuple[Tick, ...]
    """Of the score axis; `x` is a height."""
    ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _DENSITY_LEFT
    right: int = _RIGHT


@dataclass(frozen=True, slots=True)
class StatusPart:
    """A stretch of the strip that shows a coder's latents by status."""

    status: str
    n: int
    x: float
    width: float
    css: str


def place(value: float, low: float) -> str:
    """Return where a score stands on an interval bar whose scale goes from `low` to 1."""
    share = min(1.0, max(0.0, (value - low) / (1 - low)))
    return _short(_BAR_LEFT + _BAR_WIDTH * share)


def histogram(summary: Summary) -> Histogram:
    """Place the bars and the outline of a summary's histogram."""
    bins = summary.histogram
    largest = max((max(b.n_own, b.n_null) for b in bins), default=0)
    width = (_RIGHT - _LEFT) / max(1, len(bins))
    tall = (_BASE - _TOP) / max(1, largest)
    own = tuple(
        Bar(
            x=round(_LEFT + i * width + 0.5, 1),
            y=round(_BASE - b.n_own * tall, 1),
            width=round(width - 1, 1),
            height=round(b.n_own * tall, 1),
            title=_bin_title(b),
        )
        for i, b in enumerate(bins)
        if b.n_own
    )
    path = _outline([b.n_null * tall for b in bins], width)
    low, high = (bins[0].low, bins[-1].high) if bins else (0.0, 1.0)
    ticks = tuple(
        Tick(round(_LEFT + (_RIGHT - _LEFT) * i / 4, 1), words.score(low + (high - low) * i / 4))
        for i in range(5)
    )
    return Histogram(own=own, null_path=path, ticks=ticks, largest=largest)


def activations(bars: Sequence[Mapping[str, Any]] | None) -> Histogram | None:
    """Place the bars of a latent's activations; None if none were counted.

    Args:
        bars: The column `histogram` of `latents`: low, high and count, the lowest first; a
            bar is half an octave wide, and none holds zero.
    """
    if not bars:
        return None
    places = _half_octaves(bars)
    n, largest = max(places) + 1, max(bar["count"] for bar in bars)
    width = min(_WIDEST, (_RIGHT - _LEFT) / n)
    own = tuple(_activation_bar(b, p, width, largest) for b, p in zip(bars, places, strict=True))
    every = -(-len(bars) // _MOST_TICKS)
    ticks = [
        Tick(round(_LEFT + p * width, 1), words.number(b["low"]))
        for b, p in list(zip(bars, places, strict=True))[::every]
    ]
    return Histogram(
        own=own, null_path="", ticks=tuple(ticks), largest=largest, counted="activations"
    )


def _half_octaves(bars: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the place of each bar from the left; empty half octaves leave a gap."""
    steps = [round(2 * log2(b["low"] if b["low"] > 0 else -b["high"])) for b in bars]
    below = [step for step, b in zip(steps, bars, strict=True) if b["low"] < 0]
    above = [step for step, b in zip(steps, bars, strict=True) if b["low"] > 0]
    zero = max(below) - min(below) + 2 if below else 0
    return [
        max(below) - step if b["low"] < 0 else zero + step - min(above)
        for step, b in zip(steps, bars, strict=True)
    ]


def _activation_bar(bar: Mapping[str, Any], place: int, width: float, largest: int) -> Bar:
    tall = max(1.0, (_BASE - _TOP) * bar["count"] / largest)
    return Bar(
        x=round(_LEFT + place * width + 0.5, 1),
        y=round(_BASE - tall, 1),
        width=round(width - 1, 1),
        height=round(tall, 1),
        title=f"{words.number(bar['low'])} to {words.number(bar['high'])}: "
        f"{words.count(bar['count'])} activations",
    )


def histogram_words(summary: Summary) -> str:
    """Return what the histogram shows, for people who do not see it."""
    return (
        f"Histogram of {summary.n_latents} latents by score: mean {words.score(summary.mean)}, "
        f"mean of the null {words.score(summary.mean_null)}"
    )


def density_plot(summary: Summary) -> Densities:
    """Place the dots of a summary's score by density."""
    steps = summary.by_density
    bins = summary.histogram
    low, high = (bins[0].low, bins[-1].high) if bins else (0.0, 1.0)
    first, last = (steps[0].step, steps[-1].step) if steps else (0, 0)
    gap = (_RIGHT - _DENSITY_LEFT) / (last - first + 1)

    def down(score: float) -> float:
        return round(_BASE - (_BASE - 8) * (score - low) / (high - low), 1)

    def across(step: int) -> float:
        return round(_DENSITY_LEFT + gap * (step - first + 0.5), 1)

    dots = tuple(
        Dot(across(s.step), down(s.low), down(s.middle), down(s.high), _step_title(s))
        for s in steps
    )
    rungs = tuple(
        Tick(down(low + (high - low) * i / 4), words.score(low + (high - low) * i / 4))
        for i in range(5)
    )
    every = 1 + len(steps) // (_MOST_TICKS + 1)
    ticks = tuple(Tick(across(s.step), _density(s.step)) for s in steps[::every])
    return Densities(dots=dots, rungs=rungs, ticks=ticks)


def density_words(summary: Summary) -> str:
    """Return what the plot of score by density shows, for people who do not see it."""
    return "Median score by density: " + "; ".join(_step_title(s) for s in summary.by_density)


def scores_over_time(moments: Sequence[Moment], low: float) -> Densities | None:
    """Place a latent's scores with their intervals, one moment after the other.

    Args:
        moments: Of one latent, the oldest first.
        low: Where the scale begins; it ends at 1.

    Returns:
        None if fewer than two moments have a score.
    """

    def down(score: float) -> float:
        return round(_BASE - (_BASE - 8) * (score - low) / (1 - low), 1)

    found = [(i, m, m.value) for i, m in enumerate(moments) if m.value is not None]
    if len(found) < 2:
        return None
    across = _evenly(len(moments))
    dots = tuple(
        Dot(
            across(i), down(m.ci_low if m.ci_low is not None else value), down(value),
            down(m.ci_high if m.ci_high is not None else value), _moment_title(m),
        )
        for i, m, value in found
    )  # fmt: skip
    steps = [low + (1 - low) * i / 4 for i in range(5)]
    rungs = tuple(Tick(down(step), words.score(step)) for step in steps)
    return Densities(dots=dots, rungs=rungs, ticks=_dates(moments, across))


def densities_over_time(moments: Sequence[Moment]) -> Densities | None:
    """Place how often a latent fired by powers of ten; None if it was not counted twice."""
    found = [(i, m, m.density) for i, m in enumerate(moments) if m.density]
    if len({m.n_tokens for _, m, _ in found}) < 2:
        return None
    logs = [log10(density) for _, _, density in found]
    low, high = min(logs) - 0.1, max(logs) + 0.1

    def down(log: float) -> float:
        return round(_BASE - (_BASE - 8) * (log - low) / (high - low), 1)

    across = _evenly(len(moments))
    dots = tuple(
        Dot(across(i), y, y, y, _moment_title(m))
        for (i, m, _), y in zip(found, map(down, logs), strict=True)
    )
    steps = [low + (high - low) * i / 3 for i in range(4)]
    rungs = tuple(Tick(down(step), f"{100 * 10**step:.2g}%") for step in steps)
    return Densities(dots=dots, rungs=rungs, ticks=_dates(moments, across))


def dots_words(plot: Densities) -> str:
    """Return what a plot of values shows, for people who do not see it."""
    return "; ".join(dot.title for dot in plot.dots)


def _evenly(n: int) -> Callable[[int], float]:
    """Return where each of some moments stands: all the same way apart."""
    gap = (_RIGHT - _DENSITY_LEFT) / n
    return lambda i: round(_DENSITY_LEFT + gap * (i + 0.5), 1)


def _dates(moments: Sequence[Moment], across: Callable[[int], float]) -> tuple[Tick, ...]:
    days = {m.at.date() for m in moments}
    every = 1 + len(moments) // (_MOST_TICKS + 1)
    return tuple(
        Tick(across(i), f"{m.at:%m-%d}" if len(days) > 1 else f"{m.at:%H:%M}")
        for i, m in list(enumerate(moments))[::every]
    )


def _moment_title(moment: Moment) -> str:
    parts = [f"{moment.at:%Y-%m-%d %H:%M}"]
    if moment.value is not None:
        interval = words.interval(moment.ci_low, moment.ci_high)
        parts.append(f"score {words.score(moment.value)}{f', {interval}' if interval else ''}")
    if moment.density is not None:
        parts.append(f"fires on {words.share(moment.density)}")
    return ": ".join((parts[0], ", ".join(parts[1:])))


def strip(hookpoint: Hookpoint) -> tuple[StatusPart, ...]:
    """Place the stretches of a hookpoint's statuses on a strip 100 units wide."""
    parts, x = [], 0.0
    for status, n in hookpoint.statuses:
        width = 100 * n / hookpoint.n_latents
        css = _STATUS_CSS.get(status, "s-other")
        parts.append(StatusPart(status, n, round(x, 3), round(width, 3), css))
        x += width
    return tuple(parts)


def _outline(heights: list[float], width: float) -> str:
    """Return the path of a histogram's outline, empty if there is nothing to draw."""
    if not any(heights):
        return ""
    path, at = f"M{_LEFT} {_BASE}", 0.0
    for i, height in enumerate(heights):
        if height != at:
            path += f"H{_short(_LEFT + i * width)}V{_short(_BASE - height)}"
            at = height
    return path + (f"H{_RIGHT}V{_BASE}" if at else "")


def _bin_title(b: Bin) -> str:
    bounds = f"{words.score(b.low)} to {words.score(b.high)}"
    return f"{bounds}: {words.count(b.n_own)} latents, null {words.count(b.n_null)}"


def _step_title(step: DensityStep) -> str:
    return (
        f"density {_density(step.step)} to {_density(step.step + 1)}: median "
        f"{words.score(step.middle)} over {words.count(step.n)} latents"
    )


def _density(step: int) -> str:
    return words.share(10 ** (step / 2)).replace(" %", "%")


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
