"""SQLite files beside the journal: how they are opened and written by several processes."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_S = 60.0
"""Longest wait for another process's write."""
_AGAIN_S = 0.02


def connect(
    path: Path,
    schema: str,
    *,
    synchronous: Literal["OFF", "NORMAL", "FULL"] = "NORMAL",
    across_threads: bool = False,
) -> sqlite3.Connection:
    """Open a file in WAL mode, in which each statement is its own transaction.

    Args:
        path: Made if it is not there, its folder too.
        schema: Statements that make the tables that are not there.
        synchronous: `FULL` waits for the disk at each commit: what it returned from survives a
            power cut. `NORMAL` survives the end of the process, `OFF` too but for the power.
        across_threads: Whether other threads use it; they take care of each other.

    Raises:
        sqlite3.OperationalError: the file cannot be opened or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    con = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=not across_threads
    )
    try:
        _use_wal(con)
        con.execute(f"PRAGMA synchronous = {synchronous}")
        con.executescript(schema)
    except BaseException:
        con.close()
        raise
    return con


@contextmanager
def transaction(
    con: sqlite3.Connection, kind: Literal["DEFERRED", "IMMEDIATE"] = "IMMEDIATE"
) -> Iterator[sqlite3.Connection]:
    """Commit what the block does as one, or roll it back on an error."""
    with con:
        con.execute(f"BEGIN {kind}")
        yield con


def _use_wal(con: sqlite3.Connection) -> None:
    """Switch a new file to WAL; SQLite waits for nobody here, so that two processes may collide."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            con.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_AGAIN_S)
        else:
            return
