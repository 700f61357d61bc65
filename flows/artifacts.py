"""What a person sees on a flow's page: progress, scores, plots, costs and where the page is.

A server that does not take one is told in the log and stops nothing: artifacts show the lake,
they are not the work.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from httpx import HTTPError
from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from lakeinterp.lake import open_lake
from lakeinterp.pipeline import FAILURES
from lakeinterp.report import pictures, words
from lakeinterp.report.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from uuid import UUID

    from lakeinterp.config import Config
    from lakeinterp.report.records import Summary

N_LATENTS = 50
"""Latents in the table of scores, best first."""
_EVERY_S = 2.0
"""Of a bar, which the server is told of no more often than that."""


class Progress:
    """A bar on the flow's page: tasks done of all.

    Args:
        name: Of the tasks.
        n_all: How many there are.
    """

    def __init__(self, name: str, n_all: int) -> None:
        self._name, self._n_all, self._n_done = name, n_all, 0
        self._id: UUID | None = None
        self._due = 0.0

    def __enter__(self) -> Self:
        if self._n_all:
            with _shown():
                key = _key(f"progress {self._name}")
                made = create_progress_artifact(0.0, key=key, description=self._said())
                self._id = cast("UUID", made)  # it is a coroutine only in asynchronous flows
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to close: the bar stays on the page as it was last."""

    def step(self) -> None:
        """Show that one more is done."""
        self._n_done += 1
        is_due = self._n_done == self._n_all or time.monotonic() >= self._due
        if self._id is not None and is_due:
            self._due = time.monotonic() + _EVERY_S
            with _shown():
                update_progress_artifact(
                    self._id, 100.0 * self._n_done / self._n_all, description=self._said()
                )

    def _said(self) -> str:
        return f"{self._name}: {self._n_done} of {self._n_all} tasks"


def show_counts(step: str, rows: Mapping[str, int]) -> None:
    """Show the rows that a step wrote, by status; the log warns of those that failed."""
    table = [{"status": status, "rows": n} for status, n in sorted(rows.items())]
    if table:
        with _shown():
            create_table_artifact(table, key=_key(f"{step} rows"), description=f"What {step} wrote")
    failed = {status: n for status, n in rows.items() if status in FAILURES}
    if failed:
        get_run_logger().warning(
            "%s: %d of %d rows failed (%s); what failed in passing is asked again by the next run",
            step, sum(failed.values()), sum(rows.values()), failed,
        )  # fmt: skip


def show_reasons(reasons: Mapping[str, int]) -> None:
    """Show how many latents and scorers were out of date, by reason."""
    table = [{"reason": reason, "latents and scorers": n} for reason, n in sorted(reasons.items())]
    if table:
        with _shown():
            create_table_artifact(
                table, key=_key("out of date"), description="What was out of date, and why"
            )


def show_costs(config: Config, capture: str) -> None:
    """Show what the replies behind a capture's explanations and judgements cost, in all."""
    with Reader(open_lake(config), config, capture) as reader:
        table = [
            {
                "hookpoint": hookpoint,
                "explainer": explainer,
                "scorer": scorer or "(explaining)",
                "replies": cost.n_replies,
                "failed": cost.n_failed,
                "USD": round(cost.cost_usd, 6),
                "of unknown cost": cost.n_unknown,
                "models": ", ".join(cost.models),
            }
            for (hookpoint, explainer, scorer), cost in reader.costs.items()
            if cost.n_replies
        ]
    if table:
        with _shown():
            create_table_artifact(
                table, key=_key(f"costs {capture}"), description=f"What was paid: {capture}"
            )


def show_results(config: Config, capture: str) -> None:
    """Show scores, costs and plots of a capture, read from the lake as it is now."""
    with Reader(open_lake(config), config, capture) as reader:
        found = [(hookpoint, one) for hookpoint, all_ in reader.summaries().items() for one in all_]
        latents = [
            {
                "hookpoint": one.hookpoint,
                "latent": one.latent,
                "score": _short(one.headline.value),
                "low": _short(one.headline.ci_low),
                "high": _short(one.headline.ci_high),
                "null": _short(one.headline.null_value),
                "failed": one.headline.n_failed,
                "explanation": _plain(one.text or ""),
            }
            for one in reader.listed(scored=True, n=N_LATENTS)
        ]
        metric = words.metric_name(reader.metric)
    with _shown():
        if found:
            create_table_artifact(
                [_summary_row(*one) for one in found],
                key=_key(f"scores {capture}"),
                description=f"Mean {metric} of each explainer and scorer, and its cost: {capture}",
            )
            create_markdown_artifact(
                _plots(found, metric),
                key=_key(f"plots {capture}"),
                description=f"Scores against the null, and by density: {capture}",
            )
        if latents:
            create_table_artifact(
                latents,
                key=_key(f"latents {capture}"),
                description=f"The best {len(latents)} latents by {metric}: {capture}",
            )


def show_page(config: Config, capture: str, page: str) -> None:
    """Show where the page is that a flow wrote."""
    link = config.flows.page_url or Path(page).resolve().as_uri()
    with _shown():
        create_link_artifact(
            link, link_text=f"The page of {capture}", key=_key(f"page {capture}"), description=page
        )


def _summary_row(hookpoint: str, one: Summary) -> dict[str, Any]:
    return {
        "hookpoint": hookpoint,
        "explainer and scorer": str(one.pair),
        "latents": one.n_latents,
        "mean": _short(one.mean),
        "low": _short(one.interval.low if one.interval else None),
        "high": _short(one.interval.high if one.interval else None),
        "null": _short(one.mean_null),
        "corrected": _short(one.mean_corrected),
        "above null": f"{one.n_above} of {one.n_compared}",
        "items": one.n_items,
        "failed": one.n_failed,
        "cost of explaining": str(one.explaining) if one.explaining.n_replies else "no calls",
        "cost of judging": str(one.judging) if one.judging.n_replies else "no calls",
    }


def _plots(found: list[tuple[str, Summary]], metric: str) -> str:
    parts = []
    for hookpoint, one in found:
        shown = {metric: pictures.scores_picture(one, metric)}
        if len(one.by_density) > 1:
            by = f"{metric} by density of the latent"
            shown[by] = pictures.density_picture(one, by)
        parts.append(f"### {_plain(hookpoint)}: {_plain(str(one.pair))}")
        parts += [f"![{name}]({_data(svg)})" for name, svg in shown.items()]
    return "\n\n".join(parts)


def _data(svg: str) -> str:
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode()


def _plain(text: str) -> str:
    """Return a text that a page of Markdown shows as it is: no HTML, no link, no picture."""
    return re.sub(r"([\\<\[])", r"\\\1", words.one_line(text))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _key(text: str) -> str:
    """Return a text as a key of an artifact: small letters, digits and dashes."""
    return "lakeinterp-" + re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@contextmanager
def _shown() -> Iterator[None]:
    try:
        yield
    except (HTTPError, PrefectException) as exc:
        get_run_logger().warning("not shown on the flow's page: %s", exc)
