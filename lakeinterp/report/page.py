"""The self-contained HTML page: no request leaves it, no corpus text is ever markup."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jinja2
from markupsafe import Markup

import lakeinterp
from lakeinterp.report import plots, words
from lakeinterp.report.facts import facts
from lakeinterp.report.reader import Reader
from lakeinterp.report.records import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.report.compare import Comparison
    from lakeinterp.report.records import Score

TEMPLATES = Path(__file__).parent / "templates"
_CODE = re.compile("`([^`]+)`")
_BUFFERED = 40
"""Pieces of markup gathered before they are written."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many latents a page lists and how many there are."""

    n_scored: int
    n_explained: int
    n_rest: int
    n_shown_scored: int
    n_shown_explained: int


class Names:
    """Names of hookpoints, explainers and scorers as a page writes them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._numbers = {h.hookpoint: i for i, h in enumerate(reader.hookpoints)}
        self.n_hookpoints = len(self._numbers)

    def hookpoint(self, name: str) -> int:
        """Return the number that stands for a hookpoint within the page."""
        return self._numbers[name]

    def anchor(self, hookpoint: str, latent: int) -> str:
        """Return the id of a latent's element."""
        return f"h{self._numbers[hookpoint]}-{latent}"

    def cost(self, hookpoint: str, explainer: str) -> str:
        """Return what an explainer's own replies cost at a hookpoint; empty without any."""
        cost = self._reader.costs.get((hookpoint, explainer, None))
        return str(cost) if cost else ""

    def explainer(self, name: str) -> str:
        """Return an explainer as what it is, with the models that wrote for it."""
        return words.explainer_name(name, self._reader.models(name))

    def scorer(self, explainer: str, name: str) -> str:
        """Return a scorer as what it is, with the models that judged for it."""
        return words.scorer_name(name, self._reader.models(explainer, name))


def write_page(
    lake: Lake,
    path: str | Path,
    config: Config,
    *,
    capture: str | None = None,
    compared: Sequence[Comparison] = (),
) -> Path:
    """Write the report of one capture as one HTML file that needs nothing else.

    Latents are fetched and written a few at a time, so memory does not grow with their number;
    the file appears whole or not at all. The same lake and settings give the same bytes.

    Args:
        lake: The lake.
        path: File to write; its folder is made.
        config: `report` decides title and length, `score.headline` the order.
        capture: Name; None takes the only one there is.
        compared: Pairs of runs to show beside each other.

    Returns:
        The path of the file.

    Raises:
        NotFound: no such capture; or no score has the metric `score.headline`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    with Reader(lake, config, capture) as reader:
        page = environment().get_template("page.html").stream(_content(reader), compared=compared)
        page.enable_buffering(_BUFFERED)
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as sink:
                sink.writelines(page)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def environment() -> jinja2.Environment:
    """Return the templates with the filters they use; everything is escaped by default."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(_FILTERS)
    return found


def asset(name: str) -> Markup:
    """Return the text of `style.css` or `script.js`, to stand in its element as it is."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    if "</" in text:
        raise ValueError(f"{name} holds '</', which could end its element")
    return Markup(text)


def policy(style: str, script: str) -> str:
    """Return a content security policy that allows this style and script, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _content(reader: Reader) -> dict[str, Any]:
    style, script = asset("style.css"), asset("script.js")
    counts, summaries = _counts(reader), reader.summaries()
    bins = [s.histogram[0].low for found in summaries.values() for s in found if s.histogram]
    return {
        "policy": policy(style, script),
        "style": style,
        "script": script,
        "title": reader.config.report.title,
        "version": lakeinterp.__version__,
        "facts": facts(reader),
        "names": Names(reader),
        "metric": reader.metric,
        "low": min(bins, default=0.0),
        "hookpoints": reader.hookpoints,
        "summaries": summaries,
        "pairs": reader.pairs,
        "default_pairs": _explainers_only(reader),
        "counts": counts,
        "scored": reader.latents(scored=True, n=counts.n_shown_scored),
        "explained": reader.latents(scored=False, n=counts.n_shown_explained),
        "unexplained": reader.unexplained(),
    }


def _counts(reader: Reader) -> Counts:
    listings, room = reader.listings(), reader.config.report.max_latents
    n_scored = sum(one.n_scored for one in listings)
    n_explained = sum(one.n_explained for one in listings)
    n_shown = min(n_scored, room)
    return Counts(
        n_scored=n_scored,
        n_explained=n_explained,
        n_rest=sum(one.n_rest for one in listings),
        n_shown_scored=n_shown,
        n_shown_explained=min(n_explained, room - n_shown),
    )


def _explainers_only(reader: Reader) -> tuple[Pair, ...]:
    """Return pairs for a lake that has explanations and no scores at all."""
    explainers = {e for h in reader.hookpoints for e, _, _ in h.explanations}
    return tuple(Pair(explainer, "") for explainer in sorted(explainers))


def _spoken(score: Score) -> str:
    parts = [words.score(score.value)]
    if score.ci_low is not None and score.ci_high is not None:
        parts.append(f"95 % interval {words.interval(score.ci_low, score.ci_high)}")
    if score.null_value is not None:
        parts.append(f"null {words.score(score.null_value)}")
    return ", ".join(parts)


def _why_none(score: Score | None) -> str:
    """Return why a latent has no score from a pair."""
    if score is None:
        return "not scored"
    failed = f", {words.count(score.n_failed)} failed" if score.n_failed else ""
    return f"no score: {words.status_name(score.status)}{failed}"


def _mark(outcome: str) -> str:
    return {"right": "✓", "wrong": "✗", "failed": "failed"}.get(outcome, outcome)


def _mark_class(outcome: str) -> str:
    """Return the class of a mark as an attribute; most are right, and those need none."""
    return {"right": "", "failed": " class=f"}.get(outcome, " class=n")


def _token(text: str) -> str:
    """Return a token's text with its breaks as marks only and leading blanks as they are."""
    return words.visible(text).replace("\n", "").replace("\t", "") or "▯"


def _prose(text: str) -> Markup:
    """Return an explanation on one line, escaped, with what stands in backticks as code."""
    parts = _CODE.split(words.one_line(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )


_FILTERS = {
    "prose": _prose,
    "count": words.count,
    "number": words.number,
    "share": words.share,
    "score": words.score,
    "interval": lambda bounds: words.interval(*bounds),
    "p": words.p_value,
    "metric": words.metric_name,
    "status": words.status_name,
    "one_line": words.one_line,
    "ranges": words.ranges,
    "token": _token,
    "exact": lambda value: f"{value:.6g}",
    "place": plots.place,
    "spoken": _spoken,
    "why_none": _why_none,
    "mark": _mark,
    "mark_class": _mark_class,
    "strip": plots.strip,
    "histogram_plot": plots.histogram,
    "histogram_words": plots.histogram_words,
    "density_plot": plots.density_plot,
    "density_words": plots.density_words,
    "dots_words": plots.dots_words,
}
