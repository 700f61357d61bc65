"""A latent's page: what the lake holds of one latent, in a dozen narrow reads.

Only files that can hold rows of the latent are opened: Delta's log knows the smallest and the
largest latent of each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import queries, where
from lakeinterp.lake.connect import reading
from lakeinterp.lake.fit import as_records
from lakeinterp.report import plots
from lakeinterp.report.details import details, listed
from lakeinterp.web.followed import followed

if TYPE_CHECKING:
    import duckdb

    from lakeinterp.lake import Vocabulary
    from lakeinterp.report.plots import Histogram
    from lakeinterp.report.records import Explanation, Hookpoint, Latent, Score, Shown
    from lakeinterp.web.followed import Followed
    from lakeinterp.web.shelf import Shelf

Row = dict[str, Any]
_N_TOKENS, _N_NEIGHBOURS = 10, 8
_METHODS = {
    "cooccurrence": "fire together",
    "decoder": "like decoder rows",
    "encoder": "like encoder rows",
}
_VIEWS = {"logits": "by its weights alone", "steering": "tried on texts"}
_ALL = 2**31 - 1
_OF_LATENTS = (
    *("latents", "history", "explanations", "scores", "judgements", "neighbours"),
    "outputs",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A latent near this one."""

    latent: int
    similarity: float | None
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens with a count, and how much more often than by chance."""

    title: str
    tokens: tuple[tuple[str, int, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a latent makes likelier and less likely."""

    view: str
    raised: tuple[str, ...]
    lowered: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one scorer was asked about one explanation."""

    explainer: str
    scorer: str
    role: str
    items: tuple[Row, ...]
    n_right: int
    n_failed: int
    is_yes_no: bool
    """Whether the items have a true answer of yes or no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedLatent:
    """All that a latent's page shows."""

    hookpoint: Hookpoint
    latent: Latent
    counted: Row | None
    tokens: tuple[Tokens, ...]
    histogram: Histogram | None
    quantiles: tuple[float, ...]
    neighbours: tuple[tuple[str, tuple[Neighbour, ...]], ...]
    outputs: tuple[Output, ...]
    judged: tuple[Judged, ...]
    examples: dict[int, Shown]
    """Of the sample shown, by their number."""
    history: tuple[Row, ...]
    followed: Followed | None
    beside: tuple[tuple[str, tuple[Score | None, ...]], ...]
    """Scorers, each with its main score of every explanation; empty unless there are several."""


def served_latent(shelf: Shelf, hookpoint: str, latent: int) -> ServedLatent:
    """Read what the lake holds of a latent now.

    Raises:
        NotFound: no such hookpoint.
        ConfigError: the coder has no such latent.
    """
    known = {h.hookpoint: h for h in shelf.reader.hookpoints}
    if hookpoint not in known:
        raise NotFound("hookpoint", hookpoint, known)
    if not 0 <= latent < known[hookpoint].n_latents:
        last = known[hookpoint].n_latents - 1
        raise ConfigError(f"{hookpoint} has latents 0 to {last}, not {latent}")
    key: Row = {"capture": shelf.capture, "hookpoint": hookpoint, "latent": latent}
    bucket = latent // known[hookpoint].bucket_latents
    mine = where(**key)
    tables = {
        **dict.fromkeys(_OF_LATENTS, mine),
        "examples": where(capture=shelf.capture, hookpoint=hookpoint, bucket=bucket),
    }
    with reading(shelf.reader.lake, tables, tables) as con:
        counted = next(iter(_rows(con, "latent", **key)), None)
        one = listed(hookpoint, latent, counted, shelf.vocabulary)
        (full,) = details(shelf.reader, con, [one], per_section=_ALL)
        history = tuple(_rows(con, "history", **key, metric=shelf.reader.metric))
        judged = _judged(con, key, full)
        near = _rows(con, "neighbours", **key, n_rows=_N_NEIGHBOURS)
        course = followed(con, shelf, key, history)
    return ServedLatent(
        hookpoint=known[hookpoint],
        latent=full,
        counted=counted,
        tokens=_tokens(counted, shelf.vocabulary),
        histogram=plots.activations(counted["histogram"]) if counted else None,
        quantiles=tuple((counted or {}).get("quantiles") or ()),
        neighbours=_neighbours(shelf, hookpoint, near),
        outputs=_outputs(full, history),
        judged=judged,
        examples={e.example: e for s in full.sections for e in s.examples},
        history=history,
        followed=course,
        beside=_beside(full.explanations, shelf.reader.metric),
    )


def _rows(con: duckdb.DuckDBPyConnection, name: str, **values: object) -> list[Row]:
    return as_records(queries.load(f"web/{name}").table(con, **values))


def _beside(
    explanations: tuple[Explanation, ...], metric: str
) -> tuple[tuple[str, tuple[Score | None, ...]], ...]:
    """Return what each scorer says of the explanations, in their order, so that they compare."""
    if len(explanations) < 2:
        return ()
    found = [
        {scorer: group.main[0] for scorer, group in e.by_scorer(metric) if group.main}
        for e in explanations
    ]
    scorers = dict.fromkeys(scorer for scores in found for scorer in scores)
    return tuple((s, tuple(scores.get(s) for scores in found)) for s in scorers)


def _tokens(counted: Row | None, vocabulary: Vocabulary) -> tuple[Tokens, ...]:
    """Return the tokens at, before and after an activation."""
    titles = {"top_tokens": "at", "top_before": "one before", "top_after": "one after"}
    found = []
    for column, title in titles.items():
        rows = ((counted or {}).get(column) or ())[:_N_TOKENS]
        if rows:
            tokens = tuple((vocabulary.text([t["token_id"]]), t["count"], t["pmi"]) for t in rows)
            found.append(Tokens(title=title, tokens=tokens))
    return tuple(found)


def _neighbours(
    shelf: Shelf, hookpoint: str, rows: list[Row]
) -> tuple[tuple[str, tuple[Neighbour, ...]], ...]:
    """Return the nearest latents by each method, with what they are said to mean."""
    places = [shelf.place(hookpoint, row["neighbour"]) for row in rows]
    said = {r["place"]: r["said"] for r in shelf.rows("web/shown", places=places)} if rows else {}
    explainer = shelf.pairs[0].explainer

    def text(latent: int) -> str | None:
        told = said.get(shelf.place(hookpoint, latent)) or ()
        mine = [one["text"] for one in told if one["explainer"] == explainer and one["text"]]
        return next(iter([*mine, *(one["text"] for one in told if one["text"])]), None)

    return tuple(
        (
            _METHODS.get(method, method),
            tuple(
                Neighbour(
                    latent=row["neighbour"],
                    similarity=row["similarity"],
                    text=text(row["neighbour"]),
                )
                for row in group
            ),
        )
        for method, group in groupby(rows, key=lambda row: str(row["method"]))
    )


def _outputs(latent: Latent, history: tuple[Row, ...]) -> tuple[Output, ...]:
    """Return the output tokens that the lake holds, else those that an explainer kept last."""
    kept = _kept(history)
    if not latent.raised:
        return kept
    view = _VIEWS["logits"]
    found = Output(view=view, raised=latent.raised, lowered=latent.lowered)
    return found, *(output for output in kept if output.view != view)


def _kept(history: tuple[Row, ...]) -> tuple[Output, ...]:
    """Return the output tokens that an explainer kept with its explanation, the newest first."""
    for row in history:
        try:
            detail = json.loads(row["detail"] or "{}")
        except ValueError:
            continue
        found = tuple(
            Output(
                view=title,
                raised=_texts(detail[view].get("raised")),
                lowered=_texts(detail[view].get("lowered")),
            )
            for view, title in _VIEWS.items()
            if isinstance(detail, dict) and isinstance(detail.get(view), dict)
        )
        if found:
            return found
    return ()


def _texts(values: object) -> tuple[str, ...]:
    return tuple(str(value) for value in values) if isinstance(values, list) else ()


def _judged(con: duckdb.DuckDBPyConnection, key: Row, latent: Latent) -> tuple[Judged, ...]:
    """Return the items of every standing explanation, scorer and role."""
    explainers = {e.explanation: e.explainer for e in latent.explanations}
    rows = _rows(con, "items", **key, explanations=list(explainers))
    found = []
    names = ("explanation", "scorer", "role")
    for (explanation, scorer, role), group in groupby(rows, key=lambda r: [r[n] for n in names]):
        items = tuple(group)
        found.append(
            Judged(
                explainer=explainers[explanation],
                scorer=scorer,
                role=role,
                items=items,
                n_right=sum(
                    r["prediction"] == r["truth"] for r in items if r["prediction"] is not None
                ),
                n_failed=sum(r["status"] not in ("ok", "stopped_early") for r in items),
                is_yes_no=any(r["truth"] is not None for r in items),
            )
        )
    return tuple(found)
