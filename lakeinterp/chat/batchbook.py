"""Which requests wait for a batch file and which are in one: a SQLite file beside the journal.

A request stays in the book until its reply is in the store, so that a kill at any point loses
nothing; a batch is written down before the provider is asked for it, with a token that the
provider keeps too, so that a batch made just before a kill is found again and not bought twice.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lakeinterp.chat.database import connect, transaction
from lakeinterp.chat.presence import Presence
from lakeinterp.chat.types import Message, Request
from lakeinterp.errors import LakeError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from lakeinterp.chat.types import RouteName

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    batch INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, remote TEXT, model TEXT NOT NULL,
    deployment TEXT NOT NULL, n INTEGER NOT NULL, most_usd REAL, most_tokens INTEGER NOT NULL,
    usd REAL NOT NULL, tokens INTEGER NOT NULL, made REAL NOT NULL, ended TEXT, submitter TEXT
);
CREATE TABLE IF NOT EXISTS requests (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, route TEXT NOT NULL, request TEXT NOT NULL,
    batch INTEGER REFERENCES batches
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_of_batch ON requests (batch);
"""


FILE = "batches.sqlite"
"""Name of the book in the journal's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch file at a provider."""

    batch: int
    """Number in the book."""
    token: str
    """In the metadata that the provider keeps."""
    remote: str | None
    """The provider's id; None until it has answered."""
    model: str
    """Name that the replies are kept under."""
    deployment: str
    """Digest of the deployment that was asked."""
    n: int
    """Requests in it."""
    most_usd: float | None
    """The most it can cost; None if the price is not known."""
    most_tokens: int
    """The most it can come to, prompts and replies."""
    usd: float
    """Cost of the replies that were collected; what is not known counts as the most it can be."""
    tokens: int
    """Of the replies that were collected, as above."""
    made: float
    """Seconds since 1970."""
    ended: str | None
    """What came of it; None while replies are awaited."""
    submitter: str | None
    """Who sends it, see `lakeinterp.chat.presence`; None in books of earlier versions."""


class BatchBook:
    """The file; several processes may use it.

    Args:
        path: Made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._con = connect(path, _SCHEMA, synchronous="FULL")
        _add_columns(self._con)
        self._presence = Presence(path.parent)

    def add(self, requests: Iterable[tuple[str, str, Request]]) -> None:
        """Let (key, model, request) wait; those that the book knows stay as they are."""
        rows = (
            (key, model, request.route, json.dumps(request.as_json()))
            for key, model, request in requests
        )
        with transaction(self._con) as con:
            con.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?, NULL)", rows)

    def n_waiting(self) -> int:
        """Return how many requests are in no batch."""
        found = self._con.execute("SELECT count(*) FROM requests WHERE batch IS NULL")
        return int(found.fetchone()[0])

    def waiting(self) -> Iterator[tuple[str, str, Request]]:
        """Yield (key, model, request) of those in no batch, by route and key, some at a time."""
        after = ("", "")
        while rows := self._con.execute(
            "SELECT route, key, model, request FROM requests"
            " WHERE batch IS NULL AND (route, key) > (?, ?) ORDER BY route, key LIMIT 500",
            after,
        ).fetchall():
            for route, key, model, text in rows:
                yield key, model, _request(route, text)
            after = rows[-1][:2]

    def still_waiting(self, keys: Iterable[str]) -> set[str]:
        """Return those of these requests that are in no batch and wait for one."""
        rows = self._con.execute(
            "SELECT key FROM requests"
            " WHERE batch IS NULL AND key IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keys)),),
        )
        return {key for (key,) in rows}

    def drop(self, keys: Iterable[str]) -> None:
        """Forget waiting requests, because their replies are there; those in a batch stay."""
        with transaction(self._con) as con:
            con.executemany(
                "DELETE FROM requests WHERE key = ? AND batch IS NULL", [(key,) for key in keys]
            )

    def is_awaited(self, key: str) -> bool:
        """Return whether a request is in a batch that is not collected: it is bought already."""
        rows = self._con.execute(
            "SELECT 1 FROM requests WHERE key = ? AND batch IS NOT NULL", (key,)
        )
        return rows.fetchone() is not None

    def begin(
        self,
        keys: Sequence[str],
        *,
        model: str,
        deployment: str,
        most_usd: float | None,
        most_tokens: int,
    ) -> Batch:
        """Write down that these waiting requests are about to be sent as one batch.

        Raises:
            LakeError: some of them do not wait any more.
        """
        token, made, submitter = uuid4().hex, time.time(), self._presence.name
        with transaction(self._con) as con:
            row = con.execute(
                "INSERT INTO batches"
                " (token, made, submitter, model, deployment, n, most_usd, most_tokens,"
                " usd, tokens)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
                (token, made, submitter, model, deployment, len(keys), most_usd, most_tokens),
            )
            number = int(row.lastrowid or 0)
            taken = con.executemany(
                "UPDATE requests SET batch = ? WHERE key = ? AND batch IS NULL",
                [(number, key) for key in keys],
            ).rowcount
            if taken != len(keys):
                raise LakeError(
                    "another process is sending the same requests: wait for its `llm batch submit` "
                    "to end and give the command again"
                )
        return self._one(number)

    def sent(self, batch: Batch, remote: str) -> Batch:
        """Write down the provider's id of a batch; return the batch with it."""
        self._con.execute("UPDATE batches SET remote = ? WHERE batch = ?", (remote, batch.batch))
        return self._one(batch.batch)

    def is_being_sent(self, batch: Batch) -> bool:
        """Return whether somebody else, who lives, is about to have the provider's id of it."""
        submitter = batch.submitter
        if batch.remote is not None or submitter in (None, self._presence.name):
            return False
        return self._presence.is_alive(submitter)

    def requests_of(self, batch: Batch) -> dict[str, Request]:
        """Return the requests of a batch whose replies are awaited, by key."""
        rows = self._con.execute(
            "SELECT key, route, request FROM requests WHERE batch = ?", (batch.batch,)
        )
        return {key: _request(route, text) for key, route, text in rows}

    def done(self, batch: Batch, keys: Iterable[str], usd: float, tokens: int) -> None:
        """Take requests out of the book: their replies are in the store and came to this."""
        with transaction(self._con) as con:
            con.executemany("DELETE FROM requests WHERE key = ?", [(key,) for key in keys])
            con.execute(
                "UPDATE batches SET usd = usd + ?, tokens = tokens + ? WHERE batch = ?",
                (usd, tokens, batch.batch),
            )

    def end(self, batch: Batch, ended: str) -> tuple[Batch, int]:
        """Close a batch; return it as it stands and how many requests of it wait again."""
        with transaction(self._con) as con:
            con.execute("UPDATE batches SET ended = ? WHERE batch = ?", (ended, batch.batch))
            left = con.execute(
                "UPDATE requests SET batch = NULL WHERE batch = ?", (batch.batch,)
            ).rowcount
        return self._one(batch.batch), int(left)

    def batches(self, *, is_open: bool = False) -> list[Batch]:
        """Return the batches in the order they were made, all or those with awaited replies."""
        cursor = self._con.execute(
            "SELECT * FROM batches WHERE ended IS NULL OR NOT ? ORDER BY batch", (is_open,)
        )
        names = [column[0] for column in cursor.description]
        return [Batch(**dict(zip(names, row, strict=True))) for row in cursor]

    def _one(self, number: int) -> Batch:
        return next(batch for batch in self.batches() if batch.batch == number)

    def close(self) -> None:
        """Close the file."""
        self._con.close()
        self._presence.close()


def _add_columns(con: sqlite3.Connection) -> None:
    """Give a book of an earlier version the columns that came later."""
    with transaction(con):
        if "submitter" not in {row[1] for row in con.execute("PRAGMA table_info(batches)")}:
            con.execute("ALTER TABLE batches ADD COLUMN submitter TEXT")


def _request(route: RouteName, text: str) -> Request:
    values: dict[str, Any] = json.loads(text)
    messages = tuple(Message(**message) for message in values.pop("messages"))
    return Request(route=route, messages=messages, **values)
