"""The budget: money is set aside before a call and booked after it, across processes.

A local SQLite file beside the replies' journal. What counts as spent is the larger of the
booked total and the sum over all replies of the lake, so that neither a lost ledger nor a lost
reply makes the budget larger. Money set aside by a process that died is booked as spent: its
calls may have been answered, and the provider will want to be paid.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.errors import BudgetStopped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY CHECK (id = 1), usd REAL NOT NULL);
INSERT OR IGNORE INTO total VALUES (1, 0.0);
CREATE TABLE IF NOT EXISTS held (id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, usd REAL NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one call."""

    id: int
    usd: float


class Ledger:
    """Holds one lake's spending to a budget.

    Args:
        path: The SQLite file; made if it is not there.
        budget_usd: Most that may be spent in all.
        spent_usd: Sum over the replies the lake holds now.
    """

    def __init__(self, path: Path, budget_usd: float, spent_usd: float) -> None:
        self.budget_usd = budget_usd
        self._holds: dict[int, Hold] = {}
        self._con = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._con.execute("PRAGMA journal_mode = WAL")
        self._con.execute("PRAGMA synchronous = NORMAL")
        self._con.executescript(_SCHEMA)
        with self._transaction() as con:
            con.execute("UPDATE total SET usd = max(usd, ?)", (spent_usd,))
            for (pid,) in con.execute("SELECT DISTINCT pid FROM held").fetchall():
                if not _is_alive(pid):
                    _book_all_of(con, pid)

    @property
    def spent_usd(self) -> float:
        """What is booked, without what is set aside."""
        return float(self._con.execute("SELECT usd FROM total").fetchone()[0])

    def hold(self, usd: float | None) -> Hold:
        """Set money aside for a call.

        Args:
            usd: The most the call can cost; None if that is not known.

        Raises:
            BudgetStopped: it could exceed the budget, or its cost is not known.
        """
        if usd is None:
            raise BudgetStopped(
                "chat.budget_usd is set and the model's price is not known: give its deployment "
                "input_cost_per_token and output_cost_per_token"
            )
        with self._transaction() as con:
            spent, held = con.execute(
                "SELECT (SELECT usd FROM total), (SELECT coalesce(sum(usd), 0) FROM held)"
            ).fetchone()
            if spent + held + usd > self.budget_usd:
                raise BudgetStopped(
                    f"chat.budget_usd = {self.budget_usd:g}: {spent:.6g} spent, {held:.6g} set "
                    f"aside for calls in flight, and the next call may cost {usd:.6g}"
                )
            row = con.execute("INSERT INTO held (pid, usd) VALUES (?, ?)", (os.getpid(), usd))
            hold = Hold(int(row.lastrowid or 0), usd)
        self._holds[hold.id] = hold
        return hold

    def book(self, hold: Hold, usd: float | None) -> None:
        """Book what a call did cost and free the rest; None books all that was set aside."""
        with self._transaction() as con:
            con.execute("DELETE FROM held WHERE id = ?", (hold.id,))
            con.execute("UPDATE total SET usd = usd + ?", (hold.usd if usd is None else usd,))
        self._holds.pop(hold.id, None)

    def close(self) -> None:
        """Book what is still set aside here and close the file."""
        for hold in list(self._holds.values()):
            self.book(hold, None)
        self._con.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._con:  # commits, or rolls back on an error
            self._con.execute("BEGIN IMMEDIATE")
            yield self._con


def _book_all_of(con: sqlite3.Connection, pid: int) -> None:
    held = con.execute("SELECT coalesce(sum(usd), 0) FROM held WHERE pid = ?", (pid,)).fetchone()
    con.execute("UPDATE total SET usd = usd + ?", held)
    con.execute("DELETE FROM held WHERE pid = ?", (pid,))


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 is no question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
