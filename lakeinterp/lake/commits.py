"""Commits to a Delta table: retried beside other writers, files added and removed as one."""

from __future__ import annotations

import json
import random
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote

from lakeinterp import logs
from lakeinterp.errors import Conflict
from lakeinterp.lake import schema as schemas
from lakeinterp.lake.faults import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deltalake import CommitProperties, DeltaTable
    from deltalake.transaction import AddAction

    from lakeinterp.lake.store import Store, Written

ATTEMPTS = 20
_LONGEST_WAIT_S = 2.0
_REMOVALS = "lakeinterp/removals"
"""Counts the commits that take files away: two at one time cannot both succeed."""

T = TypeVar("T")


class Live(NamedTuple):
    """A file that the newest version of a table names."""

    path: str
    """Relative to the table's root."""
    n_bytes: int
    n_rows: int | None
    """None if the writer did not count them."""
    partition: dict[str, Any]
    minimum: dict[str, Any]
    maximum: dict[str, Any]


def retried(name: str, attempt: Callable[[], T]) -> T:
    """Return what an attempt to commit returns, tried again while other writers win.

    Args:
        name: Table, for messages.
        attempt: Reads the newest version and commits to it.

    Raises:
        Conflict: other writers won every retry.
        StorageError: the disk or the object store refuses.
    """
    from deltalake.exceptions import CommitFailedError

    reason = ""
    with translated(name):
        for n in range(ATTEMPTS):
            began = time.monotonic()
            try:
                return attempt()
            except CommitFailedError as exc:
                reason = str(exc)
            # Others need as long as this attempt took, which in a large table is long.
            wait = (0.005 + 3 * (time.monotonic() - began)) * 2**n
            time.sleep(random.uniform(0, min(_LONGEST_WAIT_S, wait)))
    raise Conflict(
        f"{name}: other writers won {ATTEMPTS} commits in a row; run it again ({reason})"
    )


def live_files(delta: DeltaTable, **partition: str | int) -> list[Live]:
    """Return the files of a table, or of those partitions alone, with their statistics."""
    import pyarrow as pa
    import pyarrow.compute as pc

    actions = pa.table(delta.get_add_actions())
    for column, value in partition.items():
        held = pc.struct_field(actions["partition"], column)
        actions = actions.filter(pc.equal(held, pa.scalar(value, held.type)))
    return [
        Live(
            unquote(row["path"]),
            row["size_bytes"],
            row["num_records"],
            row.get("partition") or {},
            row.get("min") or {},
            row.get("max") or {},
        )
        for row in actions.to_pylist()
    ]


def app_ids(store: Store, name: str) -> set[str]:
    """Return the application ids that a table's log records, those of old versions too."""
    import pyarrow.parquet as pq

    log = store.path(name, "_delta_log")
    names = {PurePosixPath(file).name: file for file in store.fs.ls(log, detail=False)}
    checkpoints = sorted(n for n in names if ".checkpoint" in n and n.endswith(".parquet"))
    newest = checkpoints[-1].partition(".")[0] if checkpoints else ""
    found: set[str] = set()
    for file in (names[n] for n in checkpoints if n.startswith(newest)):
        with store.fs.open(file, "rb") as source:
            rows = pq.read_table(source, columns=["txn"])["txn"].to_pylist()
        found |= {row["appId"] for row in rows if row and row["appId"]}
    for file in (names[n] for n in sorted(names) if n.endswith(".json") and n >= newest):
        for line in store.fs.cat_file(file).splitlines():
            if line.startswith(b'{"txn"'):
                found.add(json.loads(line)["txn"]["appId"])
    return found


def added(file: Written, *, data_change: bool = True) -> AddAction:
    """Return the action that makes a file part of a table."""
    from deltalake.transaction import AddAction

    now_ms = int(time.time() * 1000)
    return AddAction(file.path, file.n_bytes, file.partition, now_ms, data_change, _stats(file))


def properties(apps: Mapping[str, int]) -> CommitProperties:
    """Return what every commit carries: versions of application ids, and the run that makes it.

    The run stands as `lakeinterp.run` in the table's history, which so names it for every row.
    """
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        custom_metadata={"lakeinterp.run": run} if (run := logs.run_id()) else None,
        app_transactions=[Transaction(*item) for item in apps.items()],
    )


def commit(delta: DeltaTable, name: str, actions: Sequence[Any], apps: Mapping[str, int]) -> None:
    """Make actions visible as one, with the versions of application ids.

    Raises:
        CommitFailedError: the table is not at its newest version; see `retried`. The package would
            look at each newer commit and try again, which takes it the time of opening the table
            for each, and again at the next.
    """
    definition = schemas.table(name)
    stamp = properties(apps)
    stamp.max_commit_retries = 0
    delta.create_write_transaction(
        list(actions),
        mode="append",
        schema=definition.schema,
        partition_by=list(definition.partition) or None,
        commit_properties=stamp,
    )


def swap(
    delta: DeltaTable,
    name: str,
    *,
    old: Sequence[Live],
    new: Sequence[Written] = (),
    data_change: bool,
    apps: Mapping[str, int] | None = None,
) -> bool:
    """Put new files in the place of old ones in one commit.

    Old files stay where they are until `vacuum`, for readers that have begun. The package does
    not notice when two commits remove one file, so each carries a counter that does.

    Args:
        delta: The table at its newest version.
        name: Its name.
        old: Files as `live_files` gave them.
        new: Files that are written in full.
        data_change: Whether the table's rows differ after it.
        apps: Application ids to record with it.

    Returns:
        Whether the commit was made; False if an old file is gone already.

    Raises:
        CommitFailedError: another writer won; see `retried`.
    """
    from deltalake.transaction import RemoveAction

    if not {file.path for file in old} <= live_paths(delta):
        return False
    now_ms = int(time.time() * 1000)
    removals = [
        RemoveAction(file.path, data_change, now_ms, file.n_bytes, _partition_texts(file.partition))
        for file in old
    ]
    additions = [added(file, data_change=data_change) for file in new]
    commit(delta, name, [*removals, *additions], {**(apps or {}), **next_removal(delta)})
    return True


def next_removal(delta: DeltaTable) -> dict[str, int]:
    """Return the application id and version that every commit carries that takes files away."""
    return {_REMOVALS: int(delta.transaction_version(_REMOVALS) or 0) + 1}


def live_paths(delta: DeltaTable) -> set[str]:
    """Return the paths of a table's files, relative to its root."""
    import pyarrow as pa

    return {unquote(path) for path in pa.table(delta.get_add_actions())["path"].to_pylist()}


def _partition_texts(partition: Mapping[str, Any]) -> dict[str, str | None]:
    return {k: None if v is None else str(v) for k, v in partition.items()}


def _stats(file: Written) -> str:
    return json.dumps(
        {
            "numRecords": file.n_rows,
            "minValues": file.minimum,
            "maxValues": file.maximum,
            "nullCount": dict.fromkeys(file.minimum, 0),
        }
    )
