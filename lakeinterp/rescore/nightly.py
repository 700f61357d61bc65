"""After more tokens were captured: buckets that fired, counted and drawn again, with history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.lake import queries, units, where
from lakeinterp.rescore.buckets import buckets_of, corpus_app, sequences_app
from lakeinterp.sampling.statistics import statistics_app
from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pyarrow as pa

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.rescore.buckets import Bucket, Captured
    from lakeinterp.terms import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What a refresh did."""

    captured: Captured
    """The buckets as they are now."""
    n_units: int
    n_refreshed: int
    """Units counted and drawn again; the others were up to date or had not fired since."""
    n_examples: int
    """Examples of the refreshed units' samples."""
    n_recorded: int
    """Rows added to `history`."""


def with_more_tokens(lake: Lake, config: Config, capture: str, n_tokens: int) -> Config:
    """Return the settings that capture so many tokens more than a capture has.

    Raises:
        NotFound: no such capture.
    """
    context = int(lake.capture(capture)["context_tokens"])
    n_all = units.captured_sequences(lake, capture) * context + n_tokens
    update = {"name": capture, "n_tokens": n_all}
    return config.model_copy(update={"capture": config.capture.model_copy(update=update)})


def refresh(
    lake: Lake,
    config: Config,
    *,
    run: str,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    progress: Callable[[str, Unit, int, int], None] | None = None,
) -> Refreshed:
    """Count and draw again what more tokens changed, and keep what `latents` held in `history`.

    Rows of a refreshed bucket are those that a fresh lake of the same tokens would get. A second
    call finds nothing to do and reads the logs alone. A killed one is completed by the next.

    Args:
        lake: The lake.
        config: `sampling` decides; `rescore.whole` refreshes every bucket.
        run: Written to the rows of `history`.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        progress: As of `lakeinterp.sampling.sample`.

    Raises:
        NotFound: no such capture or hookpoint.
        AuditFailed: an example breaks a rule; it was not written.
    """
    name = str(lake.capture(capture)["capture"])
    whole = config.rescore.whole
    before = buckets_of(lake, config.sampling, name, hookpoints, whole=whole)
    due = {bucket.unit for bucket in before.buckets if bucket.is_due}
    n_recorded = _record(lake, before.buckets, run)
    if not due:
        return _refreshed(before, due, 0, n_recorded)
    from lakeinterp.sampling import sample

    if config.sampling.needs_coder:
        from lakeinterp.capture.neighbours import write_neighbours

        write_neighbours(lake, config, capture=name, hookpoints=hookpoints)
    done = sample(lake, config, capture=name, hookpoints=hookpoints, only=due, progress=progress)
    after = buckets_of(lake, config.sampling, name, hookpoints, whole=whole)
    n_recorded += _record(lake, after.buckets, run)
    return _refreshed(after, due, sum(unit.n_examples for unit in done), n_recorded)


def _refreshed(captured: Captured, due: set[Unit], n_examples: int, n_recorded: int) -> Refreshed:
    return Refreshed(
        captured=captured,
        n_units=len(captured.buckets),
        n_refreshed=len(due),
        n_examples=n_examples,
        n_recorded=n_recorded,
    )


def _record(lake: Lake, buckets: Iterable[Bucket], run: str) -> int:
    """Copy to `history` what the lake holds of some buckets and `history` does not; how many rows.

    Over how many sequences a bucket that is due was counted is not known, and so not recorded.
    """
    latents = lake.table("latents")
    if latents is None:
        return 0
    todo: dict[str, list[tuple[Bucket, int]]] = {}
    for bucket in buckets:
        stamp = int(latents.transaction_version(statistics_app(bucket.unit)) or 0)
        if stamp and lake.committed("history", _app(bucket.unit)) != stamp:
            todo.setdefault(bucket.unit.hookpoint, []).append((bucket, stamp))
    return sum(_record_hookpoint(lake, hookpoint, found, run) for hookpoint, found in todo.items())


def _record_hookpoint(
    lake: Lake, hookpoint: str, found: Sequence[tuple[Bucket, int]], run: str
) -> int:
    capture = found[0][0].unit.capture
    key = {"capture": capture, "hookpoint": hookpoint}
    width = int(lake.one("hookpoints", where(**key))["bucket_latents"])
    with lake.connect(latents=where(**key), history=where(**key)) as con:
        rows = queries.load("stats/unrecorded").table(
            con,
            **key,
            buckets=[bucket.unit.bucket for bucket, _ in found],
            bucket_latents=width,
            run=run,
            created_at=now(),
        )
    recorded = {_app(bucket.unit): stamp for bucket, stamp in found}
    recorded |= {
        sequences_app(bucket.unit): bucket.n_sequences for bucket, _ in found if not bucket.is_due
    }
    counted = {bucket.n_sequences for bucket, _ in found if not bucket.is_due}
    recorded |= {corpus_app(capture, n): n for n in counted}
    place = f"{where(**key)} AND {_inside(rows, width)}"
    lake.replace("history", rows, where=place, recorded=recorded)
    return int(rows.num_rows)


def _inside(rows: pa.Table, width: int) -> str:
    """Return the condition for rows of the same buckets and corpora as these."""
    if not rows.num_rows:
        return "n_tokens = -1"
    corpora = sorted(set(rows["n_tokens"].to_pylist()))
    buckets = sorted({latent // width for latent in rows["latent"].to_pylist()})
    ranges = [f"(latent >= {b * width} AND latent < {(b + 1) * width})" for b in buckets]
    return f"n_tokens IN ({', '.join(map(str, corpora))}) AND ({' OR '.join(ranges)})"


def _app(unit: Unit) -> str:
    return f"history/{unit}"
