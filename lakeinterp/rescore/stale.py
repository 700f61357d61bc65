"""What is out of date: `sql/report/stale.sql`, given what rows made now would carry."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lakeinterp.explain.explainer import load_explainer, settings_of
from lakeinterp.lake import queries, units, where
from lakeinterp.lake.selection import chosen_latents
from lakeinterp.rescore.buckets import LEVELS, Captured, buckets_of
from lakeinterp.score.scorer import load_scorer
from lakeinterp.score.scoring import judged_by
from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from lakeinterp.config import Config, SamplingConfig
    from lakeinterp.lake import Lake

TURNS = 500
"""Times that a language model may be asked anew; one a day is a year and more."""
FAILED_FOR_GOOD = ("parse_failed", "refused", "truncated", "many_failed")
"""Statuses that a rerun leaves alone, and that `rescore.failed` asks for anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """One latent and scorer with what is to be done again; see `sql/report/stale.sql`."""

    capture: str
    hookpoint: str
    latent: int
    explainer: str
    scorer: str
    explanation: str | None
    reasons: tuple[str, ...]
    priority: int
    """0 missing or failed, 1 changed, 2 older or wider."""
    is_explained: bool
    """Whether the explanation stands as it is."""
    level: int
    """How often the number of examples is doubled."""
    explain_turn: int
    turn: int
    value: float | None
    width: float | None
    scored_at: datetime | None
    n_sequences: int
    """Sequences that its examples are drawn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staleness:
    """What is out of date in a capture."""

    capture: str
    captured: Captured
    rows: tuple[Stale, ...]
    """The most worth first, over all hookpoints."""
    n_chosen: int
    """Latents that the settings choose, of all hookpoints."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Latents and scorers by reason; some have several."""

    @property
    def n_due(self) -> int:
        """Units that are to be counted and drawn again before anything else."""
        return sum(bucket.is_due for bucket in self.captured.buckets)

    @property
    def n_latents(self) -> int:
        """Latents with something to do."""
        return len({(row.hookpoint, row.latent) for row in self.rows})

    def table(self) -> pa.Table:
        """Return the rows with the columns of `sql/report/stale.sql`."""
        import pyarrow as pa

        kinds = {"latent": pa.int32(), "reasons": pa.list_(pa.string()), "is_explained": pa.bool_()}
        kinds |= dict.fromkeys(("priority", "level", "explain_turn", "turn"), pa.int32())
        kinds |= dict.fromkeys(("value", "width"), pa.float64())
        kinds["scored_at"] = pa.timestamp("us", tz="UTC")
        columns = queries.load("report/stale").columns
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
        return pa.Table.from_pylist([asdict(row) for row in self.rows], schema=schema)


def stale(
    lake: Lake,
    config: Config,
    *,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
) -> Staleness:
    """Return what of the chosen latents' explanations and scores is out of date, and why.

    Nothing is written and nobody is asked. A latent of a bucket that is due counts as explained
    from fewer tokens, though the new examples may turn out to be the old ones.

    Args:
        lake: The lake.
        config: `explain`, `score`, `chat` and `sampling` say what rows would be made now; `rescore`
            what else is to be redone.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.

    Raises:
        NotFound: no such capture, hookpoint, explainer or scorer.
        ConfigError: `sampling.where` is not a condition, or a listed latent does not exist.
    """
    name = str(lake.capture(capture)["capture"])
    captured = buckets_of(lake, config.sampling, name, hookpoints, whole=config.rescore.whole)
    present = {**_made(config), **_judged(config), **_asked(config)}
    present |= _earlier(lake, config.sampling, name, captured)
    rows: list[Stale] = []
    n_chosen = 0
    for row in units.hookpoints(lake, name, hookpoints):
        chosen = chosen_latents(
            lake, name, str(row["hookpoint"]), config.sampling, n_latents=row["n_latents"]
        )
        n_chosen += len(chosen)
        if chosen:
            rows += _of_hookpoint(lake, config, captured, row, list(chosen), present)
    rows.sort(key=_worth)
    reasons = Counter(reason for row in rows for reason in row.reasons)
    return Staleness(
        capture=name, captured=captured, rows=tuple(rows), n_chosen=n_chosen, reasons=reasons
    )


def _worth(row: Stale) -> tuple[Any, ...]:
    """Return what sorts rows of several hookpoints as the statement sorts those of one."""
    scored = row.scored_at.timestamp() if row.scored_at else 0.0
    width = -1.0 if row.width is None else row.width
    return row.priority, scored, -width, row.hookpoint, row.latent, row.scorer


def _of_hookpoint(
    lake: Lake,
    config: Config,
    captured: Captured,
    row: Mapping[str, Any],
    chosen: list[int],
    present: Mapping[str, Any],
) -> list[Stale]:
    key = {"capture": str(row["capture"]), "hookpoint": str(row["hookpoint"])}
    place, width = where(**key), int(row["bucket_latents"])
    mine = {
        b.unit.bucket: b.n_sequences
        for b in captured.buckets
        if b.unit.hookpoint == key["hookpoint"]
    }
    tables = ("explanations", "scores", "judgements", "latents")
    with lake.connect(**dict.fromkeys(tables, place)) as con:
        found = queries.load("report/stale").table(
            con,
            **key,
            latents=chosen,
            bucket_latents=width,
            **_samples(lake, config.sampling, key["capture"], mine),
            **present,
        )
    return [
        Stale(
            **{**one, "reasons": tuple(one["reasons"])},
            n_sequences=mine[one["latent"] // width],
        )
        for one in found.to_pylist()
    ]


def grown(sampling: SamplingConfig, level: int) -> SamplingConfig:
    """Return the settings with the scorers' examples doubled so many times."""
    names = ("n_score", "n_random", "n_same_token", "n_neighbour", "n_similar")
    return sampling.model_copy(update={n: getattr(sampling, n) * 2**level for n in names})


def _samples(
    lake: Lake, sampling: SamplingConfig, capture: str, n_sequences: Mapping[int, int]
) -> dict[str, Any]:
    """Return the samples that stand for each bucket, by level."""
    held: dict[tuple[int, int], str] = {}
    found: dict[str, list[Any]] = {"buckets": [], "samples": [], "levels": []}
    for bucket, n in n_sequences.items():
        for level in range(LEVELS):
            if (n, level) not in held:
                held[n, level] = units.sample_id(
                    lake, capture, grown(sampling, level), n_sequences=n
                )
            for name, value in zip(found, (bucket, held[n, level], level), strict=True):
                found[name].append(value)
    return found


def _earlier(
    lake: Lake, sampling: SamplingConfig, capture: str, captured: Captured
) -> dict[str, Any]:
    """Return the samples of fewer tokens, with their levels."""
    found = {
        units.sample_id(lake, capture, grown(sampling, level), n_sequences=n): level
        for n in captured.earlier
        for level in range(LEVELS)
    }
    return {"earlier": list(found), "earlier_levels": list(found.values())}


def _made(config: Config) -> dict[str, Any]:
    """Return what explanations made now would carry, in each turn."""
    explainer = load_explainer(config.explain)
    turns = range(TURNS if explainer.needs_chat else 1)
    return {
        "explainer": explainer.name,
        "explained_by": [settings_of(explainer, at_turns(config, explain=turn)) for turn in turns],
        "prompt": explainer.prompt,
    }


def _judged(config: Config) -> dict[str, Any]:
    """Return what scores made now would carry, by scorer and turn."""
    found: dict[str, list[Any]] = {
        name: [] for name in ("scorers", "headlines", "asking", "judges", "judged", "turns")
    }
    for name in config.score.scorers:
        scorer = load_scorer(name, config.score)
        found["scorers"].append(scorer.name)
        found["headlines"].append(scorer.headline)
        found["asking"].append(scorer.needs_chat)
        for turn in range(TURNS if scorer.needs_chat else 1):
            found["judges"].append(scorer.name)
            found["judged"].append(judged_by(scorer, at_turns(config, score=turn)))
            found["turns"].append(turn)
    return found


def at_turns(config: Config, *, explain: int | None = None, score: int | None = None) -> Config:
    """Return the settings in other turns of asking."""
    update: dict[str, Any] = {}
    if explain is not None:
        update["explain"] = config.explain.model_copy(update={"turn": explain})
    if score is not None:
        update["score"] = config.score.model_copy(update={"turn": score})
    return config.model_copy(update=update)


def _asked(config: Config) -> dict[str, Any]:
    """Return what is asked for beside what changed."""
    asked, sampling = config.rescore, config.sampling
    days = asked.older_than_days
    return {
        "transient": config.chat.tried_again,
        "failures": list(FAILED_FOR_GOOD) if asked.failed else [],
        "before": None if days is None else now() - timedelta(days=days),
        "wider": asked.wider_than,
        "least": config.score.n_borrowed + 1,
        "n_score": sampling.n_score,
        "score_share": 1 - sampling.explain_share,
    }
