"""The terminal's summary of a capture: counts, means against nulls, best and worst latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from lakeinterp.report import words
from lakeinterp.report.facts import corpus
from lakeinterp.report.reader import Reader
from lakeinterp.report.terminal import heading, indented, lines, plain, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.report.records import Cost, Hookpoint, Listed, Summary

N_SHOWN = 10
"""Latents shown at either end of the order."""


def summary(
    lake: Lake, config: Config, *, capture: str | None = None, n_shown: int = N_SHOWN
) -> RenderableType:
    """Return what a person wants to know first about a capture, for a terminal of any width.

    Args:
        lake: The lake.
        config: `score.headline` is the metric.
        capture: Name; None takes the only one there is.
        n_shown: Latents listed at the best and at the worst end.

    Raises:
        NotFound: no such capture; or no score has the metric `score.headline`.
    """
    with Reader(lake, config, capture) as reader:
        summaries = reader.summaries()
        parts: list[RenderableType] = [_title(reader)]
        for hookpoint in reader.hookpoints:
            found = summaries.get(hookpoint.hookpoint, ())
            parts += _hookpoint(reader, hookpoint, found)
        parts += _extremes(reader, summaries, n_shown)
    return Group(*parts)


def _title(reader: Reader) -> Text:
    row = reader.capture
    return heading(
        reader.name,
        f"{words.place(row['model'])} with {words.place(row['coder'])} on {corpus(reader)}",
    )


def _hookpoint(
    reader: Reader, hookpoint: Hookpoint, summaries: Sequence[Summary]
) -> list[RenderableType]:
    statuses = ", ".join(
        f"{words.count(n)} {words.status_name(status)}" for status, n in hookpoint.statuses
    )
    facts = [("latents", f"{words.count(hookpoint.n_latents)}: {statuses}")]
    facts += [_explained(reader, hookpoint, e) for e in _explainers(hookpoint)]
    facts += [_judged(reader, one) for one in summaries]
    if not hookpoint.explanations:
        facts.append(("explained", "none yet: run `lakeinterp explain`"))
    parts: list[RenderableType] = [Text(""), heading(hookpoint.hookpoint), lines(facts)]
    return [*parts, indented(_scores(reader, summaries))] if summaries else parts


def _explainers(hookpoint: Hookpoint) -> list[str]:
    return list(dict.fromkeys(explainer for explainer, _, _ in hookpoint.explanations))


def _explained(reader: Reader, hookpoint: Hookpoint, explainer: str) -> tuple[str, str]:
    counted = {s: n for e, s, n in hookpoint.explanations if e == explainer}
    parts = [f"{words.count(counted.pop('ok', 0))} ok"]
    parts += [f"{words.count(n)} {words.status_name(s)}" for s, n in counted.items()]
    cost = reader.costs.get((hookpoint.hookpoint, explainer, None))
    name = words.explainer_name(explainer, reader.models(explainer))
    return "explained", f"{name}: {', '.join(parts)}{_costing(cost)}"


def _judged(reader: Reader, one: Summary) -> tuple[str, str]:
    name = words.scorer_name(one.pair.scorer, reader.models(one.pair.explainer, one.pair.scorer))
    counts = f"{words.count(one.n_items)} items, {words.count(one.n_failed)} failed"
    without = f", {words.latents(one.n_without)} without score" if one.n_without else ""
    marked = f", too many of {words.latents(one.n_marked)}" if one.n_marked else ""
    return "judged", f"{name}: {counts}{marked}{without}{_costing(one.judging)}"


def _costing(cost: Cost | None) -> str:
    return f"; {cost}" if cost and cost.n_replies else ""


def _scores(reader: Reader, summaries: Iterable[Summary]) -> RenderableType:
    metric = words.metric_name(reader.metric)
    columns = (f"mean\n{metric}", "by\nfrequency", "null", "corrected", "above\nnull")
    found = table("explainer ·\nscorer", *columns, "q ≤\n0.05")
    for one in summaries:
        bounds = "" if one.interval is None else words.bounds(one.interval.low, one.interval.high)
        above = f"{words.count(one.n_above)} of {words.count(one.n_compared)}"
        found.add_row(
            Text(str(one.pair)),
            Text(f"{words.score(one.mean)} {bounds}".rstrip()),
            words.score(one.weighted),
            words.score(one.mean_null),
            words.score(one.mean_corrected),
            above if one.n_compared else "–",
            words.count(one.n_found) if one.n_ranked else "–",
        )
    return found


def _extremes(
    reader: Reader, summaries: Mapping[str, Sequence[Summary]], n_shown: int
) -> list[RenderableType]:
    """Return the best and the worst latents; all in one table where they are few.

    Latents that this explainer and scorer gave no value stand in no order: they are counted.
    """
    every = [one for found in summaries.values() for one in found]
    n_scored = sum(one.n_latents for one in every if one.pair == reader.headline)
    if not n_scored:
        return [Text(""), lines([("scores", "none yet: run `lakeinterp score`")])]
    order = f"by {words.metric_name(reader.metric)}, {reader.headline}"
    if n_others := sum(one.n_scored for one in reader.listings()) - n_scored:
        order += f"; {words.count(n_others)} more by others alone"
    if n_scored <= 2 * n_shown:
        latents = list(reader.listed(scored=True, n=n_scored))
        return [Text(""), heading("Latents", order), indented(_latents(reader, latents))]
    best = list(reader.listed(scored=True, n=n_shown))
    worst = list(reader.listed(scored=True, ascending=True, n=n_shown))[::-1]
    return [
        Text(""),
        heading(f"Best {n_shown} of {words.count(n_scored)} latents", order),
        indented(_latents(reader, best)),
        Text(""),
        heading(f"Worst {n_shown}"),
        indented(_latents(reader, worst)),
    ]


def _latents(reader: Reader, latents: Iterable[Listed]) -> RenderableType:
    found = table("latent", "score", "null", "failed")
    found.add_column("explanation", overflow="fold", ratio=1)
    several = len(reader.hookpoints) > 1
    for one in latents:
        score = one.headline
        bounds = words.bounds(score.ci_low, score.ci_high)
        found.add_row(
            plain(f"{one.hookpoint}#{one.latent}" if several else str(one.latent)),
            Text(f"{words.score(score.value)} {bounds}".rstrip()),
            words.score(score.null_value),
            words.count(score.n_failed),
            plain(_said(one)),
        )
    return found


def _said(one: Listed) -> str:
    if one.text is None:
        return "no explanation; this scorer needs none"
    return one.text or "an empty explanation"
