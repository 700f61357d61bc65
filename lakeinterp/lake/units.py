"""Units of work and the latents and examples in them: what every later room maps over."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from lakeinterp.errors import LakeError, NotFound
from lakeinterp.lake import direct, queries
from lakeinterp.lake.connect import reading
from lakeinterp.lake.fit import as_records
from lakeinterp.lake.selection import chosen_latents
from lakeinterp.lake.tables import where
from lakeinterp.terms import Example, Unit, digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.lake.vocabulary import Vocabulary
    from lakeinterp.terms import Role


_READERS = frozenset(
    f"sampling/{name}" for name in ("examples", "missing", "select", "summary", "undrawn")
)
"""Statements of sampling that read examples or choose latents; no example depends on them."""
_FEW = 16
"""Latents whose examples are read at once rather than one after the other."""
_CODE = 1
"""Raised when the code of `lakeinterp.sampling` draws other examples than before."""


def hookpoints(lake: Lake, capture: str, wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of a capture's hookpoints, all or the wanted ones, sorted by name.

    Raises:
        NotFound: a wanted hookpoint was not captured; the message lists those that were.
    """
    rows = {r["hookpoint"]: r for r in lake.rows("hookpoints", where(capture=capture))}
    for name in wanted:
        if name not in rows:
            raise NotFound("hookpoint", name, rows, hint=f"in capture {capture}")
    return [rows[name] for name in sorted(wanted or rows)]


def units(lake: Lake, capture: str, wanted: Sequence[str] = ()) -> list[Unit]:
    """Return every unit of a capture: each hookpoint's buckets, those without rows too."""
    found: list[Unit] = []
    for row in hookpoints(lake, capture, wanted):
        n_buckets = -(-row["n_latents"] // row["bucket_latents"])
        found += [
            Unit(capture=capture, hookpoint=row["hookpoint"], bucket=bucket)
            for bucket in range(n_buckets)
        ]
    return found


def shard_app(capture: str, shard: int) -> str:
    """Return the application id under which a shard's commits are recorded."""
    return f"capture/{capture}/{shard:06d}"


def captured_sequences(lake: Lake, capture: str) -> int:
    """Return how many leading sequences of the corpus are committed, without a hole."""
    delta = lake.table("activations")
    if delta is None:
        return 0
    done, shard = 0, 0
    size = shard_sequences(lake, capture)
    while count := delta.transaction_version(shard_app(capture, shard)):
        done, shard = done + count, shard + 1
        if size is not None and count < size:
            break
    return done


def shard_sequences(lake: Lake, capture: str) -> int | None:
    """Return the sequences of a full shard, None for captures that were not made by lakeinterp."""
    row = lake.capture(capture)
    settings = json.loads(row["config"]).get("capture", {})
    tokens = settings.get("shard_tokens")
    return tokens // row["context_tokens"] if tokens else None


def sampled_sequences(lake: Lake, capture: str, sampling: SamplingConfig) -> int:
    """Return how many leading sequences statistics and examples are made from."""
    n, first = captured_sequences(lake, capture), sampling.first_sequences
    return n if first is None else min(n, first)


def sample_id(
    lake: Lake, capture: str, sampling: SamplingConfig, *, n_sequences: int | None = None
) -> str:
    """Return what the `sample` column holds for examples drawn now.

    It depends on the settings, the captured text and the statements that draw, so a newer
    lakeinterp that draws otherwise makes another sample.

    More captured tokens lead to other windows, and so to another sample: explanations and scores
    of the earlier one keep the examples they were made from.

    Args:
        lake: The lake.
        capture: Capture id.
        sampling: The settings.
        n_sequences: Sequences it is drawn from, if they were counted; None counts them.
    """
    n = sampled_sequences(lake, capture, sampling) if n_sequences is None else n_sequences
    return digest([sampling.sample, n, _draws()])


@cache
def _draws() -> str:
    """Return a digest of what decides an example beside settings and tokens: the statements.

    Comments and spaces do not count. `_CODE` stands for the part that is written in Python.
    """
    names = {*queries.names("sampling"), *queries.names("strata"), "macros/mix"} - _READERS
    lines = [line for name in sorted(names) for line in queries.text(name).splitlines()]
    return digest([_CODE, " ".join(" ".join(x for x in lines if not x.startswith("--")).split())])


def examples_app(unit: Unit, sample: str) -> str:
    """Return the application id under which the commits of a unit's examples are recorded."""
    return f"examples/{unit}/{sample}"


def neighbours_app(unit: Unit, method: str) -> str:
    """Return the application id under which the commits of a unit's neighbours are recorded."""
    return f"neighbours/{method}/{unit}"


async def over_units(
    lake: Lake,
    capture: str | None,
    hookpoints: Sequence[str],
    work: Callable[[Unit, Vocabulary], Awaitable[Counter[str]]],
    progress: Callable[[Unit, Counter[str]], None] | None = None,
) -> tuple[list[Unit], Counter[str]]:
    """Do a piece of work on every unit of a capture, one after the other.

    Args:
        lake: The lake.
        capture: Name; None takes the only one there is.
        hookpoints: Names; empty takes all.
        work: From a unit and the capture's vocabulary to the rows written, by status.
        progress: Called after each unit with what it wrote.

    Returns:
        The units in their order, and the rows written in all.
    """
    row = lake.capture(capture)
    vocabulary = lake.vocabulary(row["tokenizer"])
    total: Counter[str] = Counter()
    found = units(lake, row["capture"], hookpoints)
    for unit in found:
        counts = await work(unit, vocabulary)
        total += counts
        if progress:
            progress(unit, counts)
    return found, total


def latents_of(lake: Lake, unit: Unit) -> range:
    """Return the latents of a unit."""
    row = _hookpoint(lake, unit)
    first = unit.bucket * row["bucket_latents"]
    return range(first, min(first + row["bucket_latents"], row["n_latents"]))


def selected_latents(lake: Lake, unit: Unit, sampling: SamplingConfig) -> list[int]:
    """Return the unit's latents that the settings choose, sorted; see `chosen_latents`.

    Raises:
        ConfigError: a listed latent is outside the coder's width, or `sampling.where` is not one
            condition on the columns of `latents`.
    """
    inside, n_latents = latents_of(lake, unit), _hookpoint(lake, unit)["n_latents"]
    found = chosen_latents(lake, unit.capture, unit.hookpoint, sampling, n_latents=n_latents)
    return [latent for latent in found if latent in inside]


def _hookpoint(lake: Lake, unit: Unit) -> dict[str, Any]:
    return lake.one("hookpoints", where(capture=unit.capture, hookpoint=unit.hookpoint))


def require_examples(
    lake: Lake, unit: Unit, sample: str, sampling: SamplingConfig, latents: Sequence[int]
) -> None:
    """Refuse to go on before the examples of chosen latents have been drawn from what is captured.

    Without this a latent nobody drew for would be written down as one with too few windows.

    Args:
        lake: The lake.
        unit: Where the latents are.
        sample: As `sample_id` returns it.
        sampling: The settings.
        latents: As `selected_latents` returns them.

    Raises:
        LakeError: the sample was not drawn for this unit, or not for one of the latents.
    """
    if sampling.latents and not latents:
        return  # the settings name latents, and none of them is here
    place = where(capture=unit.capture, hookpoint=unit.hookpoint)
    with lake.connect(examples=f"{place} AND bucket = {unit.bucket}", latents=place) as con:
        undrawn = (
            queries.load("sampling/undrawn")
            .run(
                con,
                capture=unit.capture,
                hookpoint=unit.hookpoint,
                bucket=unit.bucket,
                sample=sample,
                latents=list(latents),
                min_windows=sampling.min_windows,
            )
            .fetchall()
        )
    if any(is_due for _, is_due in undrawn):
        why = "for some of the latents chosen" if len(undrawn) < len(latents) else ""
        raise LakeError(_undrawn(unit, why))
    # Latents that were too rare when they were counted may not be by now.
    if len(undrawn) == len(latents) and not lake.committed("examples", examples_app(unit, sample)):
        raise LakeError(_undrawn(unit, ""))


def _undrawn(unit: Unit, why: str) -> str:
    if why:
        return (
            f"{unit}: no examples were drawn {why}: choose latents as `lakeinterp sample` was told "
            "to (--max-latents, --latents, --where), or run it first"
        )
    return (
        f"{unit}: no examples were drawn with these settings from the tokens that are captured by "
        "now: run `lakeinterp sample` first"
    )


def examples(
    lake: Lake,
    unit: Unit,
    sample: str,
    vocabulary: Vocabulary,
    role: Role | None = None,
    latents: Sequence[int] | None = None,
) -> Iterator[tuple[int, tuple[Example, ...]]]:
    """Yield (latent, its examples in their order), one latent in memory at a time.

    Args:
        lake: The lake.
        unit: Which latents.
        sample: As `sample_id` returns it.
        vocabulary: Of the capture's tokenizer; gives the examples their `pieces`.
        role: Only this role's examples; None gives both.
        latents: Only these; None gives all that have examples.
    """
    if latents is not None and len(latents) <= _FEW:
        rows = _of_few(lake, unit, sample, role, latents)
        yield from _by_latent(iter(rows), sample, vocabulary)
        return
    key = where(capture=unit.capture, hookpoint=unit.hookpoint, bucket=unit.bucket)
    with reading(lake, ["examples"], {"examples": key}) as con:
        wanted = list(latents) if latents is not None else list(latents_of(lake, unit))
        cursor = queries.load("sampling/examples").run(
            con,
            capture=unit.capture,
            hookpoint=unit.hookpoint,
            bucket=unit.bucket,
            sample=sample,
            role=role,
            latents=wanted,
        )
        yield from _by_latent(_rows(cursor), sample, vocabulary)


def _of_few(
    lake: Lake, unit: Unit, sample: str, role: Role | None, latents: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the rows that `sampling/examples` returns, all at once and without DuckDB."""
    held: dict[str, list[Any]] = {
        "capture": [unit.capture],
        "hookpoint": [unit.hookpoint],
        "bucket": [unit.bucket],
        "sample": [sample],
        "latent": list(latents),
        **({"role": [role]} if role else {}),
    }
    rows = direct.read(lake, "examples", held, tuple(queries.load("sampling/examples").columns))
    return as_records(rows.sort_by([("latent", "ascending"), ("example", "ascending")]))


def _rows(cursor: Any) -> Iterator[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    while batch := cursor.fetchmany(2000):
        for row in batch:
            yield dict(zip(names, row, strict=True))


def _by_latent(
    rows: Iterator[dict[str, Any]], sample: str, vocabulary: Vocabulary
) -> Iterator[tuple[int, tuple[Example, ...]]]:
    current: int | None = None
    gathered: list[Example] = []
    for row in rows:
        latent = row.pop("latent")
        if current is not None and latent != current:
            yield current, tuple(gathered)
            gathered = []
        current = latent
        gathered.append(_example(row, sample, vocabulary))
    if current is not None:
        yield current, tuple(gathered)


def _example(row: dict[str, Any], sample: str, vocabulary: Vocabulary) -> Example:
    tokens = tuple(cast("list[int]", row.pop("tokens")))
    values = tuple(cast("list[float]", row.pop("values")))
    pieces = vocabulary.pieces(tokens)
    return Example(sample=sample, tokens=tokens, values=values, pieces=pieces, **row)
