"""Who set something aside, and whether it is still there: a lock that ends with its process.

Each holder locks a file of its own beside the journal for as long as it lives. The system frees the
lock however the process ends, so that neither numbers that are used again, nor a restart of the
machine, nor containers or machines that share the folder and do not see each other's processes
can mislead. SQLite takes the lock, because it does so on every system.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import time
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = "running"
_JOURNAL = "-journal"
"""What SQLite puts beside a locked file, and takes away."""
_OLD_S = 3600.0
"""A file that nobody locks is left alone for so long: its maker may be about to."""


class Presence:
    """A holder's sign of life; `close` ends it, and so does the end of the process.

    Args:
        folder: Of the journal; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tidy()
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60]
        self.name = f"{host}-{os.getpid()}-{uuid4().hex[:8]}"
        """Unique for all times; host and process are told for people who look."""
        self._con = _open(self._folder / self.name)
        self._con.execute("BEGIN EXCLUSIVE")

    def is_alive(self, name: str) -> bool:
        """Return whether a holder is there; what one left behind that is not is removed."""
        if name == self.name:
            return True
        path = self._folder / name
        if not path.is_file():
            return False
        if _is_locked(path):
            return True
        path.unlink(missing_ok=True)
        return False

    def close(self) -> None:
        """End it."""
        self._con.close()
        (self._folder / self.name).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove what killed holders left behind."""
        for path in self._folder.iterdir():
            if path.name.endswith(_JOURNAL):
                continue
            try:
                is_old = time.time() - path.stat().st_mtime > _OLD_S
                if is_old and not _is_locked(path):
                    path.unlink()
            except FileNotFoundError:  # another one was faster
                continue


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _is_locked(path: Path) -> bool:
    con = _open(path)
    try:
        con.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        return True
    finally:
        con.close()
    return False
