"""Replies on their way to the lake: a local SQLite file, durable before a reply is used.

WAL with `synchronous = FULL`: a reply that `put` returned survives SIGKILL and a power cut; many
replies share one commit, so that the disk is waited for once for all of them. Several processes
of one machine may write at the same time. Rows leave only after the lake has them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from lakeinterp.chat.database import connect, transaction
from lakeinterp.chat.replies import added_up
from lakeinterp.terms import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, final INTEGER NOT NULL,
    cost_usd REAL, row TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS moves (id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL);
INSERT OR IGNORE INTO moves VALUES (1, 0);
"""
_MOVE_S = 3600.0


class Journal:
    """The file; safe to use from several threads and processes.

    Args:
        folder: Made if it is not there; holds `replies.sqlite` and the lock of movers.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._moving = folder / "moving.sqlite"
        self._con = connect(
            folder / "replies.sqlite", _SCHEMA, synchronous="FULL", across_threads=True
        )

    def put(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Keep rows of the `replies` table, all in one commit, and return the rows kept.

        A final reply is never replaced: where another process was first, its row is returned. What
        is known of the cost of a reply that is replaced is kept with the new one.
        """
        kept = []
        with self._transaction() as con:
            for row in rows:
                found = con.execute(
                    "SELECT final, row FROM replies WHERE key = ?", (row["key"],)
                ).fetchone()
                is_kept, known = (False, None) if found is None else (found[0], _decode(found[1]))
                if is_kept and known is not None:
                    kept.append(known)
                    continue
                kept.append(row if known is None else added_up(row, known))
                _write(con, kept[-1])
        return kept

    def find(self, keys: Iterable[str]) -> tuple[dict[str, dict[str, Any]], int]:
        """Return the rows with final replies by key, and how often rows were moved away so far."""
        wanted = json.dumps(list(keys))
        with self._transaction("DEFERRED") as con:
            found = con.execute(
                "SELECT key, row FROM replies"
                " WHERE final AND key IN (SELECT value FROM json_each(?))",
                (wanted,),
            ).fetchall()
            n_moves = con.execute("SELECT n FROM moves").fetchone()[0]
        return {key: _decode(row) for key, row in found}, int(n_moves)

    def newest(self) -> int:
        """Return the number of the row that came last, 0 if there is none."""
        with self._lock:
            return int(self._con.execute("SELECT coalesce(max(seq), 0) FROM replies").fetchone()[0])

    def oldest(self, limit: int, newest: int) -> dict[int, dict[str, Any]]:
        """Return rows by their number, in the order they came, up to the number `newest`."""
        with self._lock:
            found = self._con.execute(
                "SELECT seq, row FROM replies WHERE seq <= ? ORDER BY seq LIMIT ?", (newest, limit)
            ).fetchall()
        return {seq: _decode(row) for seq, row in found}

    def forget(self, numbers: Iterable[int]) -> None:
        """Delete rows by number; a reply that replaced one meanwhile has another number."""
        with self._transaction() as con:
            con.executemany("DELETE FROM replies WHERE seq = ?", [(n,) for n in numbers])
            con.execute("UPDATE moves SET n = n + 1")

    def __len__(self) -> int:
        with self._lock:
            return int(self._con.execute("SELECT count(*) FROM replies").fetchone()[0])

    def spent(self) -> tuple[float, int]:
        """Return the sums of the known costs and tokens of the rows here."""
        with self._lock:
            usd, tokens = self._con.execute(
                "SELECT coalesce(sum(cost_usd), 0.0), coalesce(sum("
                " coalesce(row ->> 'prompt_tokens', 0) + coalesce(row ->> 'completion_tokens', 0)"
                "), 0) FROM replies"
            ).fetchone()
        return float(usd), int(tokens)

    @contextmanager
    def only_mover(self) -> Iterator[None]:
        """Hold the machine-wide right to move rows; freed also when the process dies."""
        con = sqlite3.connect(self._moving, timeout=_MOVE_S, isolation_level=None)
        try:
            con.execute("BEGIN EXCLUSIVE")
            yield
            con.execute("ROLLBACK")
        finally:
            con.close()

    def close(self) -> None:
        """Close the file; what it holds stays."""
        with self._lock:
            self._con.close()

    @contextmanager
    def _transaction(
        self, kind: Literal["DEFERRED", "IMMEDIATE"] = "IMMEDIATE"
    ) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._con, kind) as con:
            yield con


def _write(con: sqlite3.Connection, row: dict[str, Any]) -> None:
    con.execute(
        "INSERT OR REPLACE INTO replies (key, final, cost_usd, row) VALUES (?, ?, ?, ?)",
        (row["key"], is_final(row), row["cost_usd"], _encode(row)),
    )


def is_final(row: dict[str, Any]) -> bool:
    """Whether a rerun takes this reply; the others are kept for the record and asked again."""
    return row["status"] not in TRANSIENT


def _encode(row: dict[str, Any]) -> str:
    return json.dumps(row | {"created_at": row["created_at"].isoformat()})


def _decode(text: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(text)
    return row | {"created_at": datetime.fromisoformat(row["created_at"])}
