"""Upkeep of a lake: dead files go, and so do the rows of a capture that is not wanted.

Compaction is in `lakeinterp.lake.compaction`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import commits, shards
from lakeinterp.lake import schema as schemas
from lakeinterp.lake.faults import translated
from lakeinterp.lake.tables import where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeinterp.lake.tables import Lake

RETENTION_HOURS = 7 * 24
"""Age below which `vacuum` leaves a file that no commit names: it may be about to be named."""
_OWN = (".parquet", ".partial")


class Vacuumed(NamedTuple):
    """Files that no commit names."""

    files: list[str]
    """Table and path of each, sorted."""
    n_bytes: int


class Forgotten(NamedTuple):
    """What a capture had in the lake."""

    capture: str
    n_files: dict[str, int]
    """Files taken out of each table, or rewritten without its rows."""


# -- vacuum -----------------------------------------------------------------------------------


def vacuum(
    lake: Lake, *, retention_hours: float = RETENTION_HOURS, dry_run: bool = False
) -> Vacuumed:
    """Delete what no commit names: replaced files, files of killed writers, unfinished files.

    Only Parquet and `.partial` files in a table's folder are touched. With a short retention no
    reader may still use an old version and no writer may be at work.

    Args:
        lake: The lake.
        retention_hours: Files that were replaced, or written, later than this stay.
        dry_run: Delete nothing, return what would be.

    Raises:
        ConfigError: the retention is negative.
        StorageError: the disk or the object store refuses.
    """
    if retention_hours < 0:
        raise ConfigError(f"vacuum: --retention-hours {retention_hours} is negative")
    found: list[str] = []
    n_bytes = 0
    for name in lake.tables():
        for path in _unnamed(lake, name, retention_hours):
            n_bytes += lake.store.size(name, path)
            found.append(f"{name}/{path}")
            if not dry_run:
                lake.store.remove(name, path)
    return Vacuumed(sorted(found), n_bytes)


def _unnamed(lake: Lake, name: str, retention_hours: float) -> Iterator[str]:
    """Yield the files of a table that may go, each looked at again just before."""
    delta = lake.table(name)
    assert delta is not None, "only tables that exist are looked at"
    with translated(lake.store.address(name)):
        listed = delta.vacuum(
            retention_hours=int(retention_hours),
            dry_run=True,
            enforce_retention_duration=False,
            full=True,
        )
    named = commits.live_paths(delta)
    for path in listed:
        if not path.endswith(_OWN) or path in named:
            continue
        age_s = lake.store.age_s(name, path)
        # A shard that is resumed is written again under its own name.
        if age_s is not None and age_s >= retention_hours * 3600:
            yield path


# -- forget -----------------------------------------------------------------------------------


def forget(lake: Lake, capture: str) -> Forgotten:
    """Take a capture's rows out of every table; other captures stay as they are.

    The corpus, the vocabulary and the replies of language models stay: other captures share them.
    A new capture of the same name starts from nothing. Files go with `vacuum`. A killed call is
    completed by the same call again. A `capture` that runs meanwhile ends with an error at its
    next commit and adds nothing; stop what samples, explains or scores from it first.

    Raises:
        NotFound: no table has rows of this capture.
        Conflict: other writers won every retry.
        StorageError: the disk or the object store refuses.
    """
    require(lake, capture)
    names = [n for n in lake.tables() if "capture" in schemas.table(n).columns]
    gone = dict.fromkeys(reversed(names), 0)
    while True:
        # A run that begins while rows go is stopped by the next round.
        shards.close(lake, capture)
        # What is made from something goes before it, and the capture's own row last.
        found = {name: _forget_in(lake, name, capture) for name in gone}
        if not any(found.values()):
            return Forgotten(capture, gone)
        gone = {name: gone[name] + n for name, n in found.items()}


def require(lake: Lake, capture: str) -> None:
    """Check that the lake has something of a capture.

    Raises:
        NotFound: no table has; the message lists the captures there are.
    """
    known = captures(lake)
    if capture not in known:
        raise NotFound("capture", capture, known)


def captures(lake: Lake) -> list[str]:
    """Return the captures that any table has rows of, those of a killed `forget` too."""
    found = {str(row["capture"]) for row in lake.rows("captures")}
    found |= {str(row["capture"]) for row in lake.rows("hookpoints")}
    for name in lake.tables():
        if "capture" in schemas.table(name).partition:
            found |= _captures_in(lake, name)
    return sorted(found)


def _captures_in(lake: Lake, name: str) -> set[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    delta = lake.table(name)
    if delta is None:
        return set()
    held = pc.struct_field(pa.table(delta.get_add_actions())["partition"], "capture")
    return set(pc.unique(held).to_pylist())


def _forget_in(lake: Lake, name: str, capture: str) -> int:
    """Take a capture out of one table in one commit; return the files that held its rows."""

    def attempt() -> int:
        delta = lake.create(name)
        if "capture" not in schemas.table(name).partition:
            return int(delta.delete(where(capture=capture))["num_removed_files"])
        old = commits.live_files(delta, capture=capture)
        apps = [app for app in commits.app_ids(lake.store, name) if is_of(app, capture)]
        stale = {app: 0 for app in apps if delta.transaction_version(app)}
        if old or stale:
            # Ids cannot be taken back, but set to what one has that never was.
            commits.swap(delta, name, old=old, data_change=True, apps=stale)
        return len(old)

    return commits.retried(name, attempt)


def is_of(app: str, capture: str) -> bool:
    """Whether an application id is of a capture's shards, or of what was made from its rows.

    A capture whose name begins with this one and a slash must keep its shards; what is made from
    rows may be forgotten too much, it is only made again.
    """
    if shards.is_epoch(app):
        return False
    kind, _, rest = app.partition("/")
    if kind == "capture":
        return re.fullmatch(re.escape(capture) + r"/\d+", rest) is not None
    return rest.startswith(f"{capture}/")
