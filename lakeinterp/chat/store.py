"""Replies kept under the digest of what was asked: the journal, then the `replies` table.

Memory holds eight bytes for each reply of the table, never a text. A lookup that these rule out
costs no file access; the others read the files concerned once for all lookups that wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakeinterp.chat.journal import Journal, is_final
from lakeinterp.chat.ledger import Spent
from lakeinterp.chat.replies import REPLY_COLUMNS, added_up, reply_from, row_of
from lakeinterp.errors import ConfigError, Conflict, LakeError
from lakeinterp.lake import faults
from lakeinterp.lake.commits import ATTEMPTS
from lakeinterp.lake.schema import TABLES
from lakeinterp.terms import TRANSIENT, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lakeinterp.chat.types import Reply, Request
    from lakeinterp.config import ChatConfig
    from lakeinterp.lake import Lake

    Keys = np.ndarray[Any, np.dtype[np.uint64]]

_log = logging.getLogger(__name__)
_APP = "lakeinterp/replies"
"""Counts the commits to `replies`: a mover that was overtaken by another one looks again."""
MOVE_ROWS = 5_000
"""Rows that one commit of the lake takes from the journal, and that start a move."""
LOOK_S = 5.0
"""Between two looks whether another machine wrote to the table."""
_READ_ROWS = 4096
T = TypeVar("T")
R = TypeVar("R")


class ReplyStore:
    """The replies of one lake.

    Args:
        lake: The lake; its `replies` table is made with the first reply.
        folder: Of the journal. None takes `_journal` in a local lake and, for a lake behind a
            URL, `lakeinterp/<digest of the URL>` in the user's state folder
            (`$XDG_STATE_HOME`, else `~/.local/state`).
    """

    def __init__(self, lake: Lake, folder: Path | None = None) -> None:
        self.lake = lake
        self.folder = folder or journal_folder(lake)
        self._journal = Journal(self.folder)
        self._index = _Index(lake)
        self._n_moves = -1
        self._version, self._looked = -1, 0.0
        """Of the table when it was last looked at, and when, by the monotonic clock."""
        self._n_waiting = len(self._journal)
        self._mover: asyncio.Task[int] | None = None
        self._find = _Together(self._find_all)
        self._put = _Together(self._journal.put)

    async def get(self, key: str) -> Reply | None:
        """Return the reply kept under a key; None if there is none or a rerun shall ask again."""
        row = await self._find(key)
        return None if row is None else reply_from(row)

    async def put(self, request: Request, reply: Reply) -> Reply:
        """Keep a reply; it survives SIGKILL and power loss once this returns.

        Returns:
            The reply kept: another process's, if that was first to keep one under this key.
        """
        kept = await self._put(row_of(request, reply))
        self._n_waiting += 1
        self._check_mover()
        if self._n_waiting >= MOVE_ROWS and self._mover is None:
            self._n_waiting = 0
            self._mover = asyncio.create_task(asyncio.to_thread(self.move))
        return reply_from(kept)

    def _check_mover(self) -> None:
        """Tell what kept a move from ending well: rows stay in the journal for the next one.

        Raises:
            Exception: what it raised, if no other time will be better.
        """
        if self._mover is None or not self._mover.done():
            return
        problem, self._mover = self._mover.exception(), None
        if problem is None:
            return
        if not isinstance(problem, LakeError) and not faults.is_foreign(problem):
            raise problem
        _log.warning("replies stay in the journal for now, and are moved later: %s", problem)

    def move(self) -> int:
        """Move what the journal holds now to the lake's `replies` table, in batches.

        Killed between the commit and the deletion, the next move finds the rows in the table
        and deletes them: nothing is lost and nothing appears twice. A final reply that the table
        holds is never replaced.

        Returns:
            The number of rows moved.

        Raises:
            Conflict: other machines won every retry; the journal still holds the rows.
        """
        n_moved = 0
        with self._journal.only_mover():
            newest = self._journal.newest()
            while rows := self._journal.oldest(MOVE_ROWS, newest):
                self._move(list(rows.values()))
                self._journal.forget(rows)
                n_moved += len(rows)
        return n_moved

    def _move(self, rows: Sequence[dict[str, Any]]) -> None:
        for _ in range(ATTEMPTS):
            if self._is_moved(rows):
                return
        raise Conflict(f"replies: other writers won {ATTEMPTS} commits in a row; run it again")

    def _is_moved(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Write the rows that the table lacks; False if another machine wrote to it meanwhile.

        New keys are appended, which reads nothing; only what replaces a transient reply is merged.
        """
        after = self.lake.committed("replies", _APP)
        self._index.refresh()
        known = self._index.find([row["key"] for row in rows])
        rows = [row for row in rows if row["key"] not in known]
        again = self._index.tried([row["key"] for row in rows])
        if news := [row for row in rows if row["key"] not in again]:
            if not self._append(news, after):
                return False
            after += 1
        costs = self._index.failed(again)
        replaced = [
            added_up(row, costs[row["key"]]) if row["key"] in costs else row
            for row in rows
            if row["key"] in again
        ]
        return not replaced or bool(
            self.lake.upsert("replies", replaced, scope={}, app=_APP, after=after)
        )

    def _append(self, rows: Sequence[dict[str, Any]], after: int) -> bool:
        schema = TABLES["replies"].schema
        file = self.lake.store.write_parquet(
            "replies",
            pa.Table.from_pylist(list(rows), schema=schema),
            schema=schema,
            partition={},
            name=f"replies-{uuid4().hex}",
            statistics=("key", "status"),
            compression="zstd",
        )
        if self.lake.publish("replies", [file], app=_APP, version=after + 1, after=after):
            return True
        self.lake.store.remove("replies", file.path)
        return False

    def spent(self) -> Spent:
        """Return the sums of the known costs and tokens of all replies of the lake."""
        usd, tokens = self._journal.spent()
        counted = ["cost_usd", "prompt_tokens", "completion_tokens"]
        for file in self.lake.files("replies"):
            for batch in _read(self.lake, file, counted):
                sums = [pc.sum(batch[column]).as_py() or 0 for column in counted]
                usd, tokens = usd + sums[0], tokens + sums[1] + sums[2]
        return Spent(usd, tokens)

    async def aclose(self) -> None:
        """Move the journal to the lake and close it.

        Raises:
            Conflict: as `move`; the journal still holds the rows.
        """
        await self._put.settled()  # of callers that were cancelled
        try:
            if self._mover is not None:  # what it could not move is tried again below
                await asyncio.wait({self._mover})
            try:
                self._check_mover()
            finally:
                await asyncio.to_thread(self.move)
        finally:
            self.close()

    def close(self) -> None:
        """Close the journal; what it holds stays there."""
        self._journal.close()

    def _find_all(self, keys: Sequence[str]) -> list[dict[str, Any] | None]:
        found, n_moves = self._journal.find(keys)
        missing = [key for key in keys if key not in found]
        if missing and (self._is_changed() or n_moves != self._n_moves):
            self._index.refresh()
            self._n_moves = n_moves
        found |= self._index.find(missing)
        return [found.get(key) for key in keys]

    def _is_changed(self) -> bool:
        """Whether another machine wrote to the table; looked at now and then."""
        if time.monotonic() < self._looked + LOOK_S:
            return False
        before, self._version = self._version, self.lake.version("replies")
        self._looked = time.monotonic()
        return self._version != before


def journal_folder(lake: Lake) -> Path:
    """Return where a lake's journal is; the same for every process of this machine and user."""
    if lake.store.is_local:
        return Path(lake.root) / "_journal"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "lakeinterp" / digest(lake.root)


def folder_of(lake: Lake, config: ChatConfig) -> Path:
    """Return the journal's folder under these settings; errors as of `own_folder`."""
    return own_folder(config) or journal_folder(lake)


def own_folder(config: ChatConfig) -> Path | None:
    """Return the folder that `chat.journal` names, None if it names none; it need not be there.

    Raises:
        ConfigError: it can be no folder of this machine.
    """
    if config.journal is None:
        return None
    folder = Path(config.journal).expanduser()
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    problem = None
    if "://" in config.journal:
        problem = "the journal is a folder of this machine; only the lake can be behind a URL"
    elif not there.is_dir():
        problem = f"{there} is a file"
    elif not os.access(there, os.W_OK | os.X_OK):
        problem = f"{there} may not be written"
    if problem is not None:
        raise ConfigError(f"chat.journal: {config.journal!r}: {problem}")
    return folder


def n_waiting(lake: Lake, folder: Path | None = None) -> int:
    """Return how many replies wait in a lake's journal; makes none where none is."""
    folder = folder or journal_folder(lake)
    if not (folder / "replies.sqlite").is_file():
        return 0
    journal = Journal(folder)
    try:
        return len(journal)
    finally:
        journal.close()


class _Index:
    """Which file of the table holds which reply: eight bytes a reply."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._prefixes: dict[str, Keys] = {}
        """Of final replies, by file."""
        self._transient: dict[str, Keys] = {}
        """Of the others, by file."""

    def refresh(self) -> None:
        """Read the keys of files that are new, drop those of files that are gone."""
        files = set(self._lake.files("replies"))
        for known in (self._prefixes, self._transient):
            for gone in known.keys() - files:
                del known[gone]
        for file in sorted(files - self._prefixes.keys()):
            self._prefixes[file], self._transient[file] = self._keys_of(file)

    def _keys_of(self, file: str) -> tuple[Keys, Keys]:
        final, others = [_prefixes(())], [_prefixes(())]
        for batch in _read(self._lake, file, ["key", "status"]):
            transient = pc.is_in(batch["status"], pa.array(sorted(TRANSIENT)))
            final.append(_prefixes(batch.filter(pc.invert(transient))["key"].to_pylist()))
            others.append(_prefixes(batch.filter(transient)["key"].to_pylist()))
        return np.sort(np.concatenate(final)), np.sort(np.concatenate(others))

    def tried(self, keys: Sequence[str]) -> set[str]:
        """Return the keys that may be among the table's transient replies."""
        prefixes = _prefixes(keys)
        found = np.zeros(prefixes.shape, dtype=np.bool_)
        for known in self._transient.values():
            found |= _isin(prefixes, known)
        return {keys[i] for i in np.flatnonzero(found).tolist()}

    def failed(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return key, cost and its state of the table's transient replies by key."""
        found: dict[str, dict[str, Any]] = {}
        wanted = sorted(keys)
        prefixes = _prefixes(wanted)
        for file, known in self._transient.items():
            if _isin(prefixes, known).any():
                for batch in _read(self._lake, file, ["key", "cost_usd", "cost_state"]):
                    rows = batch.filter(pc.is_in(batch["key"], pa.array(wanted))).to_pylist()
                    found |= {row["key"]: row for row in rows}
        return found

    def find(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the rows of final replies by key."""
        found: dict[str, dict[str, Any]] = {}
        prefixes = _prefixes(keys)
        for file, known in self._prefixes.items():
            here = [keys[i] for i in np.flatnonzero(_isin(prefixes, known)).tolist()]
            if here:
                wanted = pa.array(here)
                for batch in _read(self._lake, file, list(REPLY_COLUMNS)):
                    rows = batch.filter(pc.is_in(batch["key"], wanted)).to_pylist()
                    found |= {row["key"]: row for row in rows if is_final(row)}
        return found


def _prefixes(keys: Iterable[str]) -> Keys:
    return np.fromiter((int(key[:16], 16) for key in keys), dtype=np.uint64)


def _isin(wanted: Keys, known: Keys) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return for each wanted value whether it is among the sorted known ones."""
    if not known.size:
        return np.zeros(wanted.shape, dtype=np.bool_)
    at = np.minimum(np.searchsorted(known, wanted), known.size - 1)
    return np.asarray(known[at] == wanted)


def _read(lake: Lake, file: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the columns of one file of the table, some thousand rows at a time."""
    schema = pa.schema([TABLES["replies"].schema.field(column) for column in columns])
    store = lake.store
    with store.fs.open(file.removeprefix("file://") if store.is_local else file, "rb") as source:
        for batch in pq.ParquetFile(source).iter_batches(_READ_ROWS, columns=columns):
            yield batch.select(columns).cast(schema)  # delta-rs writes string views


class _Together(Generic[T, R]):
    """Runs blocking work in a thread, once for everything that gathered during its last run."""

    def __init__(self, work: Callable[[list[T]], list[R]]) -> None:
        self._work = work
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return await future

    async def settled(self) -> None:
        """Wait until nothing runs."""
        if self._runner is not None:
            await asyncio.wait({self._runner})

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            items = [item for item, _ in batch]
            work = asyncio.ensure_future(asyncio.to_thread(self._work, items))
            await asyncio.wait({work})
            problem = work.exception()
            for n, (_, future) in enumerate(batch):
                if future.done():
                    continue
                if problem is not None:
                    future.set_exception(problem)
                else:
                    future.set_result(work.result()[n])
