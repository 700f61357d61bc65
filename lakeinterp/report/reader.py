"""Reads what reports show from one capture of a lake: `sql/report/*.sql` in, records out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from lakeinterp import registry
from lakeinterp.errors import NotFound
from lakeinterp.lake import queries, units, where
from lakeinterp.report import statistics
from lakeinterp.report.details import details
from lakeinterp.report.records import (
    Bin,
    Cost,
    DensityStep,
    Hookpoint,
    Listed,
    Listing,
    Pair,
    Score,
    Summary,
    Unexplained,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import duckdb

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake, Vocabulary
    from lakeinterp.report.records import Latent

N_BINS = 20
"""Of score histograms."""
NOT_SAMPLED = "not sampled"
"""Status that `report/status_counts` gives latents without a row in `latents`."""
N_TOP_TOKENS = 8
"""Top tokens shown for a latent."""
_BATCH = 25
_PARTITIONED = (
    *("activations", "latents", "outputs", "neighbours"),
    *("examples", "explanations", "judgements"),
)
_SCORE_COLUMNS = (
    "value", "ci_low", "ci_high", "n", "n_failed", "null_value", "corrected", "p_value",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Counted:
    """Distinct values of a metric and the latents that have each."""

    values: list[float]
    counts: list[int]


class Reader:
    """One capture of a lake, open for reading; a context manager.

    Every method runs one or a few queries and holds no more than it returns.
    """

    def __init__(self, lake: Lake, config: Config, capture: str | None = None) -> None:
        """Open a capture.

        Args:
            lake: The lake.
            config: Its `score.headline`, `explain.explainer` and `score.scorers` choose what
                latents are sorted by.
            capture: Name; None takes the only one there is.

        Raises:
            NotFound: no such capture; or `score.headline` is set and no score has this metric.
        """
        self.lake, self.config = lake, config
        self.capture: dict[str, Any] = lake.capture(capture)
        self.name = str(self.capture["capture"])
        self.metric = config.score.headline
        self._stack = ExitStack()
        self.con = self._connect()
        self._details_con = self._connect()
        self.pairs = self._pairs()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the capture's tokenizer."""
        return self.lake.vocabulary(str(self.capture["tokenizer"]))

    @cached_property
    def hookpoints(self) -> tuple[Hookpoint, ...]:
        """The capture's hookpoints by name, with their latents and explanations counted."""
        statuses, explanations = self._rows("status_counts"), self._rows("explanation_counts")
        counted, explained = list(statuses), list(explanations)
        return tuple(
            Hookpoint(
                **row,
                statuses=tuple(
                    (r["status"], r["n"]) for r in counted if r["hookpoint"] == row["hookpoint"]
                ),
                explanations=tuple(
                    (r["explainer"], r["status"], r["n"])
                    for r in explained
                    if r["hookpoint"] == row["hookpoint"]
                ),
            )
            for row in self._rows("hookpoints")
        )

    @property
    def headline(self) -> Pair:
        """The pair that latents are sorted by: the first of `pairs`, else the settings'."""
        if self.pairs:
            return self.pairs[0]
        scorers = self.config.score.scorers or ("",)
        return Pair(self.config.explain.explainer, scorers[0])

    @cached_property
    def costs(self) -> dict[tuple[str, str, str | None], Cost]:
        """Cost of the replies by (hookpoint, explainer, scorer); scorer None: of explaining."""
        found = {}
        for row in self._rows("costs"):
            key = (row.pop("hookpoint"), row.pop("explainer"), row.pop("scorer"))
            found[key] = Cost(**{**row, "models": tuple(row["models"])})
        return found

    def models(self, explainer: str, scorer: str | None = None) -> tuple[str, ...]:
        """Return the language models whose replies stand behind an explainer or a scorer."""
        return tuple(
            sorted(
                {
                    model
                    for (_, e, s), cost in self.costs.items()
                    if e == explainer and s == scorer
                    for model in cost.models
                }
            )
        )

    def samples(self) -> dict[str, int]:
        """Return the samples behind the explanations, newest first, with their explanations."""
        return {row["sample"]: row["n_explanations"] for row in self._rows("sample_sizes")}

    @cached_property
    def newest_sample(self) -> str | None:
        """The sample of the newest explanation; None without explanations."""
        return next(iter(self.samples()), None)

    @cached_property
    def present_sample(self) -> str:
        """The sample that these settings give of what is captured by now."""
        return units.sample_id(self.lake, self.name, self.config.sampling)

    def listings(self) -> tuple[Listing, ...]:
        """Return for each hookpoint how many latents are scored, explained only, or neither."""
        return tuple(Listing(**row) for row in self._rows("listing_counts", metric=self.metric))

    def summaries(self) -> dict[str, tuple[Summary, ...]]:
        """Return for each hookpoint its summaries, the headline pair's first."""
        rows = list(self._rows("score_summary", metric=self.metric))
        values, bins = self._values(), self._histograms(*statistics.scale(rows))
        densities, blocks = self._by_density(), self._blocks()
        order = {pair: i for i, pair in enumerate(self.pairs)}
        found: dict[str, list[Summary]] = {}
        for row in rows:
            del row["lowest"], row["highest"]
            hookpoint = row.pop("hookpoint")
            pair = Pair(row.pop("explainer"), row.pop("scorer"))
            key = (hookpoint, pair)
            one = values.get(key, _Counted([], []))
            totals, weights = blocks.get(key, ([], []))
            summary = Summary(
                **row,
                pair=pair,
                interval=statistics.bootstrap_mean(one.values, one.counts),
                weighted=sum(totals) / sum(weights) if any(weights) else None,
                weighted_interval=statistics.bootstrap_ratio(totals, weights),
                explaining=self.costs.get((hookpoint, pair.explainer, None), Cost()),
                judging=self.costs.get((hookpoint, pair.explainer, pair.scorer), Cost()),
                histogram=bins.get(key, ()),
                by_density=tuple(densities.get(key, ())),
            )
            found.setdefault(hookpoint, []).append(summary)
        return {h: tuple(sorted(s, key=lambda x: order[x.pair])) for h, s in found.items()}

    def listed(self, *, scored: bool, ascending: bool = False, n: int) -> Iterator[Listed]:
        """Yield latents in the order of the headline score, those without it last.

        Args:
            scored: Latents that have the metric from any explainer and scorer; False gives those
                that are explained and have it from none.
            ascending: Worst first.
            n: At most this many.
        """
        for row in self._rows(
            "latents",
            explainer=self.headline.explainer,
            scorer=self.headline.scorer,
            metric=self.metric,
            scored=scored,
            ascending=ascending,
            n_rows=n,
        ):
            yield self._listed(row)

    def latents(self, *, scored: bool, n: int) -> Iterator[Latent]:
        """Yield latents in full, as `listed` orders them; a few in memory at a time."""
        waiting = self.listed(scored=scored, n=n)
        while batch := list(islice(waiting, _BATCH)):
            yield from self.in_full(batch)

    def in_full(self, batch: list[Listed]) -> list[Latent]:
        """Return the latents with all their explanations, scores and examples, in order."""
        return details(self, self._details_con, batch)

    def unexplained(self, *, n_listed: int = 100, n_groups: int = 200) -> list[Unexplained]:
        """Return latents without explanation and score, grouped by reason.

        The last group stands for all latents of groups beyond `n_groups`, so that the counts
        add up to all of them.
        """
        groups, n_left = [], 0
        for row in self._rows(
            "unexplained", metric=self.metric, n_listed=n_listed, n_groups=n_groups
        ):
            n_left = row.pop("n_left")
            groups.append(Unexplained(**{**row, "latents": tuple(row["latents"])}))
        if n_left:
            more = "further reasons; see the tables latents and explanations"
            groups.append(_unnamed("", "other", more, n_left))
        for hookpoint in self.hookpoints:
            for status, n in hookpoint.statuses:
                if status == NOT_SAMPLED:
                    groups.append(_unnamed(hookpoint.hookpoint, status, "not counted yet", n))
        return groups

    def settings(self) -> dict[str, Any]:
        """Return the settings stored with the capture."""
        return _object(self.capture["config"])

    def versions(self) -> dict[str, Any]:
        """Return the versions of the libraries that made the capture."""
        return _object(self.capture["versions"])

    # -- inside -------------------------------------------------------------------------------

    def _connect(self) -> duckdb.DuckDBPyConnection:
        mine = where(capture=self.name)
        tables = dict.fromkeys((*_PARTITIONED, "scores"), mine)
        return self._stack.enter_context(self.lake.connect(**tables))

    def _rows(self, name: str, **values: object) -> Iterator[dict[str, Any]]:
        return rows_of(self.con, f"report/{name}", capture=self.name, **values)

    def _pairs(self) -> tuple[Pair, ...]:
        """Return the pairs that have the headline metric, the one to sort by first."""
        rows = list(self._rows("metrics"))
        if "headline" not in self.config.score.model_fields_set:
            self.metric = self._own_metric(rows)
        mine = {Pair(r["explainer"], r["scorer"]): r for r in rows if r["metric"] == self.metric}
        if rows and not mine:
            self._stack.close()
            known = {r["metric"] for r in rows}
            raise NotFound("metric", self.metric, known, hint="set score.headline to one of them")
        scorers = self.config.score.scorers
        return tuple(
            sorted(
                mine,
                key=lambda p: (
                    not mine[p]["n_latents"],
                    p.explainer != self.config.explain.explainer,
                    scorers.index(p.scorer) if p.scorer in scorers else len(scorers),
                    -mine[p]["n_latents"],
                    p,
                ),
            )
        )

    def _own_metric(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Return the metric of the settings if some score has it, else the first scorer's own."""
        metric = self.config.score.headline
        known = registry.names("scorer")
        led = dict.fromkeys((*self.config.score.scorers, *(r["scorer"] for r in rows)))
        own = [str(registry.resolve("scorer", s).headline) for s in led if s in known]
        there = {row["metric"] for row in rows}
        return next((m for m in (metric, *own) if m in there), metric)

    def _values(self) -> dict[tuple[str, Pair], _Counted]:
        found: dict[tuple[str, Pair], _Counted] = {}
        for row in self._rows("score_values", metric=self.metric):
            one = found.setdefault(_key(row), _Counted([], []))
            one.values.append(row["value"])
            one.counts.append(row["n"])
        return found

    def _blocks(self) -> dict[tuple[str, Pair], tuple[list[float], list[float]]]:
        found: dict[tuple[str, Pair], tuple[list[float], list[float]]] = {}
        for row in self._rows("score_blocks", metric=self.metric):
            totals, weights = found.setdefault(_key(row), ([], []))
            totals.append(row["total"])
            weights.append(row["weight"])
        return found

    def _histograms(self, low: float, high: float) -> dict[tuple[str, Pair], tuple[Bin, ...]]:
        counted: dict[tuple[str, Pair], dict[tuple[str, int], int]] = {}
        for row in self._rows(
            "score_histogram", metric=self.metric, low=low, high=high, n_bins=N_BINS
        ):
            counted.setdefault(_key(row), {})[row["series"], row["bin"]] = row["n"]
        width = (high - low) / N_BINS
        return {
            key: tuple(
                Bin(low + i * width, low + (i + 1) * width, n.get(("own", i), 0),
                    n.get(("null", i), 0))
                for i in range(N_BINS)
            )
            for key, n in counted.items()
        }  # fmt: skip

    def _by_density(self) -> dict[tuple[str, Pair], list[DensityStep]]:
        found: dict[tuple[str, Pair], list[DensityStep]] = {}
        for row in self._rows("score_by_density", metric=self.metric):
            found.setdefault(_key(row), []).append(DensityStep(**row))
        return found

    def _listed(self, row: dict[str, Any]) -> Listed:
        score = Score(
            scorer=self.headline.scorer,
            metric=self.metric,
            **{c: row.pop(c) for c in _SCORE_COLUMNS},
        )
        row.pop("explanation")
        top = tuple(
            (self.vocabulary.text([t["token_id"]]), t["count"])
            for t in (row.pop("top_tokens") or ())[:N_TOP_TOKENS]
        )
        return Listed(**row, headline=score, top_tokens=top)


def rows_of(
    con: duckdb.DuckDBPyConnection, name: str, **values: object
) -> Iterator[dict[str, Any]]:
    """Run a query and yield its rows as dictionaries, a batch in memory at a time.

    A connection answers one query at a time: finish the rows before the next query on `con`.
    """
    cursor = queries.load(name).run(con, **values)
    names = [column[0] for column in cursor.description]
    while batch := cursor.fetchmany(1000):
        for row in batch:
            yield dict(zip(names, row, strict=True))


def _unnamed(hookpoint: str, state: str, reason: str, n: int) -> Unexplained:
    return Unexplained(
        hookpoint=hookpoint,
        status=None,
        explainer=None,
        state=state,
        reason=reason,
        n=n,
        latents=(),
    )


def _key(row: dict[str, Any]) -> tuple[str, Pair]:
    """Take hookpoint, explainer and scorer out of a row."""
    return str(row.pop("hookpoint")), Pair(row.pop("explainer"), row.pop("scorer"))


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
