"""The loop over a unit's explanations and scorers.

Reads `explanations`, `latents` and `examples` of the score role; writes `judgements`, then
`scores`, which SQL computes from them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lakeinterp import subject
from lakeinterp.errors import ConfigError, Deferred
from lakeinterp.lake import Bench, queries, units, where
from lakeinterp.score.judging import judged_rows
from lakeinterp.score.measure import measure
from lakeinterp.score.scorer import ScoringTask, ToJudge, load_scorer
from lakeinterp.terms import WAITING, LatentId, Unit, digest, now
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import duckdb
    import pyarrow as pa

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake, Vocabulary
    from lakeinterp.score.scorer import ExplanationRole, Scorer
    from lakeinterp.terms import Example

FLUSH_ROWS = 20_000
"""Judgements written in one commit; a kill loses at most these (and no paid reply)."""
REACH = 16
"""Explanations are borrowed from latents this many places away in the order of density."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """One scorer at work on one unit."""

    lake: Lake
    unit: Unit
    config: Config
    scorer: Scorer
    settings: str
    """Digest of the scorer's settings and of the models that are asked."""
    sample: str
    """Of the examples that explanations are made from and judged on."""
    run: str

    @property
    def place(self) -> dict[str, str]:
        """Capture and hookpoint."""
        return {"capture": self.unit.capture, "hookpoint": self.unit.hookpoint}

    def connect(self, latents: Sequence[int] | None) -> duckdb.DuckDBPyConnection:
        """Return a connection that sees the hookpoint's explanations and latents.

        Of its examples, judgements and scores it sees at least those of `latents`; None sees all.
        """
        key = mine = where(**self.place)
        if latents:
            mine += f" AND latent >= {min(latents)} AND latent <= {max(latents)}"
        return self.lake.connect(
            explanations=key, latents=key, examples=mine, judgements=mine, scores=mine
        )

    def write(self, name: str, rows: pa.Table | Sequence[Mapping[str, object]]) -> int:
        """Write rows of some of the hookpoint's latents; return how many."""
        return self.lake.upsert(name, rows, scope=self.place, spans=("latent",))

    @property
    def is_sequential(self) -> bool:
        """Whether judging stops where an interval is narrow enough."""
        return bool(self.config.score.adaptive_width) and self.scorer.is_itemwise

    def bench(self, latents: Iterable[int]) -> Bench:
        """Return what the scorer may look up about the latents it judges."""
        wanted = tuple(sorted(latents))
        return Bench(
            lake=self.lake, config=self.config, sample=self.sample, latents=wanted, **self.place
        )

    @property
    def who(self) -> dict[str, str]:
        """Place, scorer and settings."""
        return {**self.place, "scorer": self.scorer.name, "settings": self.settings}


async def score_unit(
    lake: Lake,
    unit: Unit,
    config: Config,
    chat: Chat | None,
    *,
    run: str,
    vocabulary: Vocabulary | None = None,
) -> Counter[str]:
    """Score the explanations of a unit's selected latents with every scorer of the settings.

    Of each latent the newest explanation by `explain.explainer` on the present sample is scored,
    together with the borrowed ones. What was judged before is not judged again, unless its
    failure was transient. The p-values wait for `finish_hookpoint`.

    Args:
        lake: Holds the unit's `examples` and the hookpoint's `latents` and `explanations`.
        unit: Which latents.
        config: `score` names the scorers.
        chat: Asked by scorers that need a language model.
        run: Written to the rows.
        vocabulary: Of the capture's tokenizer, if at hand; read from the lake otherwise.

    Returns:
        Judgements written, by status, and explanations that wait for a batch file.

    Raises:
        ConfigError: a scorer needs a language model and `chat` is None.
        LakeError: examples of some of these latents are still to be drawn.
    """
    counts: Counter[str] = Counter()
    selected = units.selected_latents(lake, unit, config.sampling)
    sample = units.sample_id(lake, unit.capture, config.sampling)
    scorings = [_scoring(lake, unit, config, n, sample, run) for n in config.score.scorers]
    # Whatever can be refused is refused before the first scorer asks for anything.
    planned = [(scoring, *_planned(scoring, selected, chat)) for scoring in scorings]
    for scoring, own, wanted in planned:
        if wanted:
            scoring.scorer.prepare(scoring.bench(wanted))
            vocabulary = vocabulary or lake.vocabulary(lake.capture(unit.capture)["tokenizer"])
            counts += await _judge(scoring, wanted, vocabulary, chat)
        if own and not counts[WAITING]:
            _measure(scoring, own)
    return counts


async def score(
    lake: Lake,
    config: Config,
    chat: Chat | None,
    *,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    run: str,
    progress: Callable[[Unit, Counter[str]], None] | None = None,
) -> Counter[str]:
    """Score every unit of a capture and finish its hookpoints; see `score_unit`.

    Args:
        lake: The lake.
        config: The settings.
        chat: For scorers that need a language model.
        capture: Name; None takes the only one there is.
        hookpoints: Names; empty takes all.
        run: Written to the rows.
        progress: Called after each unit with the judgements it wrote, by status.

    Returns:
        Judgements written, by status.
    """

    async def work(unit: Unit, vocabulary: Vocabulary) -> Counter[str]:
        return await score_unit(lake, unit, config, chat, run=run, vocabulary=vocabulary)

    try:
        found, total = await units.over_units(lake, capture, hookpoints, work, progress)
    finally:
        subject.close()
    for place in dict.fromkeys((unit.capture, unit.hookpoint) for unit in found):
        finish_hookpoint(lake, *place, config, run=run)
    return total


def finish_hookpoint(lake: Lake, capture: str, hookpoint: str, config: Config, *, run: str) -> int:
    """Rank every score of a hookpoint in its pooled null; to be called once its units are scored.

    A latent's few borrowed explanations alone allow no small p-value, so the null is pooled: all
    borrowed explanations of the hookpoint, by the same explainer and scorer. Running it again
    changes nothing.

    Returns:
        The rows of `scores` that changed.
    """
    anywhere = Unit(capture=capture, hookpoint=hookpoint, bucket=0)
    sample = units.sample_id(lake, capture, config.sampling)
    n_changed = 0
    for name in config.score.scorers:
        scoring = _scoring(lake, anywhere, config, name, sample, run)
        with scoring.connect(None) as con:
            n_changed += _write_metrics(con, scoring, None, pooled=True)
    return n_changed


def _scoring(lake: Lake, unit: Unit, config: Config, name: str, sample: str, run: str) -> Scoring:
    scorer = load_scorer(name, config.score)
    judge = config.chat.judge if scorer.route == "judge" else config.chat.explainer
    route = judge if judge.deployments else config.chat.explainer
    models = sorted({d.name for d in route.deployments}) if scorer.needs_chat else []
    width = config.score.adaptive_width if scorer.is_itemwise else 0
    narrow = [width] if width else []
    return Scoring(
        lake=lake,
        unit=unit,
        config=config,
        scorer=scorer,
        settings=digest([scorer.settings, models, *narrow]),
        sample=sample,
        run=run,
    )


def _planned(
    scoring: Scoring, selected: Sequence[int], chat: Chat | None
) -> tuple[list[dict[str, Any]], dict[int, list[ToJudge]]]:
    """Return the explanations of chosen latents, and those still to be judged, by latent.

    Raises:
        ConfigError: the scorer needs a language model, or what it runs here is missing.
        LakeError: examples of some of these latents are still to be drawn.
    """
    scorer = scoring.scorer
    if scorer.needs_chat and chat is None:
        raise ConfigError(
            f"score.scorers: {scorer.name!r} asks a language model: set chat.judge or "
            "chat.explainer, or use the pattern scorer, which needs none"
        )
    lake, sampling = scoring.lake, scoring.config.sampling
    units.require_examples(lake, scoring.unit, scoring.sample, sampling, selected)
    with scoring.connect(selected) as con:
        own = _own(con, scoring, selected)
        wanted = _wanted(con, scoring, own)
    if wanted:
        scorer.check(scoring.bench(wanted))
    return own, wanted


def _own(
    con: duckdb.DuckDBPyConnection, scoring: Scoring, latents: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the standing explanation of each latent that has one, by latent."""
    table = queries.load("score/explanations").table(
        con,
        **scoring.place,
        explainer=scoring.config.explain.explainer,
        sample=scoring.sample,
        latents=list(latents),
    )
    return list(table.to_pylist())


def _wanted(
    con: duckdb.DuckDBPyConnection, scoring: Scoring, own: Sequence[Mapping[str, Any]]
) -> dict[int, list[ToJudge]]:
    """Return the explanations still to be judged on each latent's items, own before borrowed."""
    described = [row for row in own if row["status"] == "ok"]
    reads = scoring.scorer.uses_explanation
    pairs = [(r["latent"], _to_judge(r, r["latent"], "own")) for r in (described if reads else own)]
    for settings in sorted({row["settings"] for row in described}) if reads else ():
        latents = [row["latent"] for row in described if row["settings"] == settings]
        pairs += [
            (row["latent"], _to_judge(row, row["explained_latent"], "borrowed"))
            for row in _borrowed(con, scoring, settings, latents)
        ]
    again = scoring.config.chat.tried_again
    rows = queries.load("score/judged").run(con, **scoring.who, transient=again)
    judged = set(rows.fetchall())
    wanted: dict[int, list[ToJudge]] = {}
    for latent, explanation in pairs:
        if (latent, explanation.explanation) not in judged:
            wanted.setdefault(latent, []).append(explanation)
    return wanted


def _borrowed(
    con: duckdb.DuckDBPyConnection, scoring: Scoring, settings: str, latents: Sequence[int]
) -> list[dict[str, Any]]:
    config = scoring.config
    table = queries.load("score/borrowed").table(
        con,
        **scoring.place,
        explainer=config.explain.explainer,
        settings=settings,
        sample=scoring.sample,
        latents=list(latents),
        n=config.score.n_borrowed,
        reach=max(REACH, config.score.n_borrowed),
        share=config.score.null_share,
        seed=config.sampling.seed,
    )
    return list(table.to_pylist())


def _to_judge(row: Mapping[str, Any], explained: int, role: ExplanationRole) -> ToJudge:
    return ToJudge(
        explanation=row["explanation"],
        text=row["text"] or "",
        detail=json.loads(row["detail"]) if row["detail"] else None,
        role=role,
        explained_latent=explained,
    )


async def _judge(
    scoring: Scoring,
    wanted: Mapping[int, Sequence[ToJudge]],
    vocabulary: Vocabulary,
    chat: Chat | None,
) -> Counter[str]:
    """Judge what is wanted and write the judgements, many latents at one time."""
    examples = units.examples(
        scoring.lake,
        scoring.unit,
        scoring.sample,
        vocabulary,
        "score",
        sorted(wanted),
    )
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    limit = scoring.config.chat.concurrency if scoring.scorer.needs_chat else 1
    work = partial(_rows, scoring=scoring, chat=chat)
    async for judged in in_parallel(_tasks(scoring, examples, wanted), work, limit=limit):
        if judged is None:
            counts[WAITING] += 1
            continue
        counts.update(row["status"] for row in judged)
        rows += judged
        if len(rows) >= FLUSH_ROWS:
            scoring.write("judgements", rows)
            rows = []
    scoring.write("judgements", rows)
    return counts


def _tasks(
    scoring: Scoring,
    examples: Iterator[tuple[int, tuple[Example, ...]]],
    wanted: Mapping[int, Sequence[ToJudge]],
) -> Iterator[ScoringTask]:
    for latent, found in examples:
        for explanation in wanted[latent]:
            yield ScoringTask(
                latent=LatentId(**scoring.place, latent=latent),
                examples=found,
                explanation=explanation,
                seed=scoring.config.sampling.seed,
            )


async def _rows(
    task: ScoringTask, *, scoring: Scoring, chat: Chat | None
) -> list[dict[str, Any]] | None:
    """Return the rows of a task; None if a reply is to come later."""
    try:
        return await judged_rows(scoring.who, scoring.scorer, task, chat, scoring.config.score)
    except Deferred:
        return None


def _measure(scoring: Scoring, own: Sequence[Mapping[str, Any]]) -> None:
    """Write the scores of a unit's explanations, and a row for each that has nothing to judge."""
    made = {"run": scoring.run, "created_at": now()}
    latents = [row["latent"] for row in own]
    with scoring.connect(latents) as con:
        empty = queries.load("score/unscored").table(
            con,
            **scoring.who,
            **made,
            metric=scoring.scorer.headline,
            explanations=[row["explanation"] for row in own],
        )
        _write_metrics(con, scoring, latents, pooled=False)
    scoring.write("scores", empty)


def _write_metrics(
    con: duckdb.DuckDBPyConnection,
    scoring: Scoring,
    latents: Sequence[int] | None,
    *,
    pooled: bool,
) -> int:
    rows = measure(
        con,
        scoring.scorer.metrics,
        scoring.who,
        latents=latents,
        pooled=pooled,
        run=scoring.run,
        max_failed=scoring.config.score.max_failed,
        is_natural=scoring.scorer.is_natural,
        is_sequential=scoring.is_sequential,
    )
    return scoring.write("scores", rows)
