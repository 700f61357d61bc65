"""The loop over a unit's explanations and scorers.

Reads `explanations`, `latents` and `examples` of the score role; writes `judgements`, then
`scores`, which SQL computes from them.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from lakeinterp import subject, telemetry
from lakeinterp.chat.turns import at_turn
from lakeinterp.errors import Deferred
from lakeinterp.lake import queries, units
from lakeinterp.score.judging import judged_rows
from lakeinterp.score.measure import measure
from lakeinterp.score.planning import planned
from lakeinterp.score.scorer import ScoringTask
from lakeinterp.score.scoring import scoring_of
from lakeinterp.terms import WAITING, LatentId, Unit, now
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import duckdb

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake, Vocabulary
    from lakeinterp.score.scorer import ToJudge
    from lakeinterp.score.scoring import Scoring
    from lakeinterp.terms import Example

FLUSH_ROWS = 20_000
"""Judgements written in one commit; a kill loses at most these (and no paid reply)."""


@telemetry.traced("score unit")
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

    Of each latent the explanation that `explain` leads to on the present sample is scored, together
    with the borrowed ones; where the hookpoint has none made with these settings, the newest by
    `explain.explainer`. What was judged before is not judged again, unless its failure was
    transient. The p-values wait for `finish_hookpoint`.

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
    scorings = [scoring_of(lake, unit, config, n, sample, run) for n in config.score.scorers]
    # Whatever can be refused is refused before the first scorer asks for anything.
    for scoring, own, wanted in planned(scorings, selected, chat):
        judged: Counter[str] = Counter()
        if wanted:
            scoring.scorer.prepare(scoring.bench(wanted))
            vocabulary = vocabulary or lake.vocabulary(lake.capture(unit.capture)["tokenizer"])
            judged = await _judge(scoring, wanted, vocabulary, chat)
            counts += judged
        if own and not judged[WAITING]:
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
        scoring = scoring_of(lake, anywhere, config, name, sample, run)
        with scoring.connect(None) as con:
            n_changed += _write_metrics(con, scoring, None, pooled=True)
    return n_changed


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
    work = partial(_rows, scoring=scoring, chat=at_turn(chat, scoring.config.score.turn))
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
