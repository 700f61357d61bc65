"""Latents in full: their explanations, scores, examples and judged items, a batch at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from lakeinterp.lake import queries
from lakeinterp.report import shading
from lakeinterp.report.records import (
    ExampleSection,
    Explanation,
    Latent,
    Listed,
    Mark,
    Pair,
    Score,
    Shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb

    from lakeinterp.lake import Vocabulary
    from lakeinterp.report.reader import Reader

_Key = tuple[str, int]
_N_TOKENS = 10
"""Top tokens of one latent."""


def details(
    reader: Reader,
    con: duckdb.DuckDBPyConnection,
    batch: list[Listed],
    *,
    per_section: int | None = None,
) -> list[Latent]:
    """Return latents in full, in the order given; five queries, whatever the batch's size.

    Args:
        reader: Of the capture.
        con: What is asked; may show the latents' own files alone.
        batch: The latents.
        per_section: Examples of each role, stratum and quantile; None takes
            `report.examples_per_section`.
    """
    keys = [(one.hookpoint, one.latent) for one in batch]
    explanations = _explanations(reader, con, keys)
    samples = {key: _sample(reader, explanations[key]) for key in keys}
    # A number means another window in another sample, so marks are those of the sample shown.
    shown = [e for key in keys for e in explanations[key] if e.sample == samples[key]]
    marks = _marks(reader, con, shown)
    n_shown = per_section or reader.config.report.examples_per_section
    sections = _sections(reader, con, batch, samples, marks, n_shown)
    moved = _outputs(reader, con, keys)
    return [
        Latent(
            listed=one,
            explanations=tuple(explanations[key]),
            sections=tuple(sections[key]),
            sample=samples[key],
            is_older=samples[key] not in (None, reader.newest_sample),
            **moved.get(key, {}),
        )
        for one, key in zip(batch, keys, strict=True)
    ]


def listed(
    hookpoint: str, latent: int, counted: Mapping[str, Any] | None, vocabulary: Vocabulary
) -> Listed:
    """Return one latent as a list has it, without a headline score.

    Args:
        hookpoint: Its hookpoint.
        latent: Its number.
        counted: Its row of `latents`, None if it was not counted.
        vocabulary: Knows its top tokens.
    """
    row = counted or {}
    names = ("status", "n_activations", "n_windows", "n_documents", "density", "max", "mean")
    return Listed(
        hookpoint=hookpoint,
        latent=latent,
        **{name: row.get(name) for name in names},
        single_token=row.get("single_token"),
        top_tokens=tuple(
            (vocabulary.text([t["token_id"]]), t["count"])
            for t in (row.get("top_tokens") or ())[:_N_TOKENS]
        ),
        text=None,
        headline=Score(scorer="", metric="", value=None),
    )


def _explanations(
    reader: Reader, con: duckdb.DuckDBPyConnection, keys: list[_Key]
) -> dict[_Key, list[Explanation]]:
    """Return the explanations of each latent, in the order of the report's pairs."""
    order = list(dict.fromkeys(pair.explainer for pair in reader.pairs))
    rows = _dicts(con, "explanations", capture=reader.name, **_of(keys))
    scores = _scores(reader.name, con, [row["explanation"] for row in rows])
    found: dict[_Key, list[Explanation]] = defaultdict(list)
    for row in rows:
        key = (row.pop("hookpoint"), row.pop("latent"))
        scored = tuple(scores[*key, row["explanation"]])
        found[key].append(Explanation(**row, scores=scored))
    for mine in found.values():
        mine.sort(key=lambda e: order.index(e.explainer) if e.explainer in order else len(order))
    return found


def _of(keys: list[_Key]) -> dict[str, list[Any]]:
    """Return latents as the statements take them."""
    return {"hookpoints": [h for h, _ in keys], "latents": [latent for _, latent in keys]}


def _scores(
    capture: str, con: duckdb.DuckDBPyConnection, explanations: list[str]
) -> dict[tuple[str, int, str], list[Score]]:
    found: dict[tuple[str, int, str], list[Score]] = defaultdict(list)
    for row in _dicts(con, "scores", capture=capture, explanations=explanations):
        row.pop("settings")
        key = (row.pop("hookpoint"), row.pop("latent"), row.pop("explanation"))
        found[key].append(Score(**row))
    return found


def _outputs(
    reader: Reader, con: duckdb.DuckDBPyConnection, keys: list[_Key]
) -> dict[_Key, dict[str, tuple[str, ...]]]:
    """Return the tokens that each latent raises and lowers, of those that have them."""
    rows = _dicts(con, "outputs", capture=reader.name, **_of(keys))
    return {
        (row["hookpoint"], row["latent"]): {
            side: tuple(t["text"] for t in row[side]) for side in ("raised", "lowered")
        }
        for row in rows
    }


def _sample(reader: Reader, explanations: list[Explanation]) -> str | None:
    """Return the sample to show: the headline explainer's, else the first there is."""
    mine = [e for e in explanations if e.explainer == reader.headline.explainer]
    return next((e.sample for e in [*mine, *explanations] if e.sample), None)


def _marks(
    reader: Reader,
    con: duckdb.DuckDBPyConnection,
    explanations: list[Explanation],
) -> dict[tuple[str, int, int], list[Mark]]:
    """Return the marks of each example (hookpoint, latent, example), in the order of pairs."""
    names = _mark_names(reader)
    explainers = {e.explanation: e.explainer for e in explanations}
    marks: dict[tuple[str, int, int], list[tuple[int, Mark]]] = defaultdict(list)
    for row in _dicts(con, "judged", capture=reader.name, explanations=list(explainers)):
        pair = Pair(explainers[row["explanation"]], row["scorer"])
        if pair in names:
            key = (row["hookpoint"], row["latent"], row["example"])
            outcome = _outcome(row["n"], row["n_right"], row["n_failed"])
            marks[key].append((reader.pairs.index(pair), Mark(names[pair], outcome)))
    return {
        key: [mark for _, mark in sorted(found, key=itemgetter(0))] for key, found in marks.items()
    }


def _mark_names(reader: Reader) -> dict[Pair, str]:
    """Return what to call each pair: its scorer, unless several explainers share that."""
    shared = Counter(pair.scorer for pair in reader.pairs)
    return {p: p.scorer if shared[p.scorer] == 1 else str(p) for p in reader.pairs}


def _outcome(n: int, n_right: int, n_failed: int) -> str:
    if n > 1 and n_right not in (0, n):
        return f"{n_right} of {n} right"
    if n_failed:
        return "failed"
    return "right" if n_right else "wrong"


def _sections(
    reader: Reader,
    con: duckdb.DuckDBPyConnection,
    batch: list[Listed],
    samples: dict[_Key, str | None],
    marks: dict[tuple[str, int, int], list[Mark]],
    per_section: int,
) -> dict[_Key, list[ExampleSection]]:
    widths = {h.hookpoint: h.bucket_latents for h in reader.hookpoints}
    largest = {(one.hookpoint, one.latent): one.max for one in batch}
    rows = _dicts(
        con,
        "examples",
        capture=reader.name,
        hookpoints=[one.hookpoint for one in batch],
        buckets=[one.latent // widths[one.hookpoint] for one in batch],
        latents=[one.latent for one in batch],
        samples=[samples[one.hookpoint, one.latent] for one in batch],
        per_section=per_section,
    )
    grouped: dict[tuple[Any, ...], list[Shown]] = defaultdict(list)
    for row in rows:
        key = (row["hookpoint"], row["latent"])
        name = (*key, row["role"], row["stratum"], row["quantile"], row["n_drawn"])
        pieces = reader.vocabulary.pieces(row["tokens"])
        runs = shading.runs(pieces, row["values"], largest[key])
        shown = Shown(
            row["example"], runs, row["peak"], tuple(marks.get((*key, row["example"]), ()))
        )
        grouped[name].append(shown)
    found: dict[_Key, list[ExampleSection]] = defaultdict(list)
    for (hookpoint, latent, role, stratum, quantile, n_drawn), shown_here in grouped.items():
        section = ExampleSection(
            role=role,
            stratum=stratum,
            quantile=quantile,
            n_drawn=n_drawn,
            examples=tuple(shown_here),
        )
        found[hookpoint, latent].append(section)
    return found


def _dicts(con: duckdb.DuckDBPyConnection, name: str, **values: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = queries.load(f"report/{name}").table(con, **values).to_pylist()
    return found
