"""The budget: money and tokens are set aside before a call and booked after it, across processes.

A local SQLite file beside the replies' journal. What counts as spent is the larger of the
booked total and the sum over all replies of the lake, so that neither a lost ledger nor a lost
reply makes the budget larger. What a process set aside that died is booked as spent: its calls
may have been answered, and the provider will want to be paid. Processes without a budget book
too, for those that have one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lakeinterp.chat.database import connect, transaction
from lakeinterp.chat.presence import Presence
from lakeinterp.errors import BudgetStopped

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (
    id INTEGER PRIMARY KEY CHECK (id = 1), usd REAL NOT NULL, tokens INTEGER NOT NULL
);
INSERT OR IGNORE INTO spent VALUES (1, 0.0, 0);
CREATE TABLE IF NOT EXISTS held (
    id INTEGER PRIMARY KEY, process TEXT NOT NULL, usd REAL NOT NULL, tokens INTEGER NOT NULL
);
"""


FILE = "budget.sqlite"
"""Name of the ledger in the journal's folder."""
_LOOK_S = 1.0
"""Between two looks at what other processes have set aside."""


class AllSetAside(BudgetStopped):
    """The budget would do but for what calls in flight have set aside: most of it comes back."""


class Spent(NamedTuple):
    """Money and tokens."""

    usd: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """What is set aside for one call."""

    id: int | None
    """None if nothing was, as without a budget."""
    usd: float | None
    tokens: int


class Ledger:
    """Holds one lake's spending to a budget.

    Args:
        path: The SQLite file; made if it is not there.
        budget_usd: Most that may be spent in all; None is no limit.
        budget_tokens: Most tokens, of prompts and replies, in all; None is no limit.
        spent: Sum over the replies the lake holds now; None where there is no budget to hold to.
    """

    def __init__(
        self,
        path: Path,
        budget_usd: float | None = None,
        budget_tokens: int | None = None,
        spent: Spent | None = None,
    ) -> None:
        self.budget_usd, self.budget_tokens = budget_usd, budget_tokens
        self._presence = Presence(path.parent)
        self._holds: dict[int, Hold] = {}
        self._con = connect(path, _SCHEMA)
        with transaction(self._con) as con:
            least = spent or Spent()
            con.execute("UPDATE spent SET usd = max(usd, ?), tokens = max(tokens, ?)", least)
        self.book_dead()

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget."""
        return self.budget_usd is not None or self.budget_tokens is not None

    @property
    def spent(self) -> Spent:
        """What is booked, without what is set aside."""
        return Spent(*self._con.execute("SELECT usd, tokens FROM spent").fetchone())

    def hold(self, usd: float | None, tokens: int) -> Hold:
        """Set money and tokens aside for a call.

        Args:
            usd: The most the call can cost; None if that is not known.
            tokens: The most it can come to.

        Raises:
            AllSetAside: it could exceed the budget together with the calls in flight.
            BudgetStopped: it could exceed the budget by itself, or its cost is not known.
        """
        if not self.is_limited:
            return Hold(None, usd, tokens)
        if usd is None and self.budget_usd is not None:
            raise BudgetStopped(
                "chat.budget_usd is set and the model's price is not known: give its deployment "
                "input_cost_per_token and output_cost_per_token"
            )
        with transaction(self._con) as con:
            self._check(con, Spent(usd or 0.0, tokens))
            row = con.execute(
                "INSERT INTO held (process, usd, tokens) VALUES (?, ?, ?)",
                (self._presence.name, usd or 0.0, tokens),
            )
            hold = Hold(int(row.lastrowid or 0), usd, tokens)
        self._holds[int(row.lastrowid or 0)] = hold
        return hold

    def _check(self, con: sqlite3.Connection, wanted: Spent) -> None:
        found = con.execute(
            "SELECT (SELECT usd FROM spent), (SELECT tokens FROM spent),"
            " coalesce(sum(usd), 0.0), coalesce(sum(tokens), 0) FROM held"
        ).fetchone()
        spent, held = Spent(*found[:2]), Spent(*found[2:])
        usd = self.budget_usd
        if usd is not None and spent.usd + held.usd + wanted.usd > usd:
            stopped = BudgetStopped if spent.usd + wanted.usd > usd else AllSetAside
            raise stopped(
                f"chat.budget_usd = {usd:g}: {spent.usd:.6g} spent, {held.usd:.6g} set "
                f"aside for calls in flight, and the next call may cost {wanted.usd:.6g}"
            )
        most = self.budget_tokens
        if most is not None and spent.tokens + held.tokens + wanted.tokens > most:
            raise (BudgetStopped if spent.tokens + wanted.tokens > most else AllSetAside)(
                f"chat.budget_tokens = {most:,}: {spent.tokens:,} spent, {held.tokens:,} set aside "
                f"for calls in flight, and the next call may come to {wanted.tokens:,}"
            )

    def book(self, hold: Hold, usd: float | None, tokens: int | None) -> None:
        """Book what a call came to and free the rest; None books all that was set aside."""
        usd = hold.usd if usd is None else usd
        tokens = hold.tokens if tokens is None else tokens
        with transaction(self._con) as con:
            if hold.id is not None:
                con.execute("DELETE FROM held WHERE id = ?", (hold.id,))
            con.execute("UPDATE spent SET usd = usd + ?, tokens = tokens + ?", (usd or 0.0, tokens))
        if hold.id is not None:
            self._holds.pop(hold.id, None)

    def book_dead(self) -> None:
        """Book what processes had set aside that are no more."""
        with transaction(self._con) as con:
            for (process,) in con.execute("SELECT DISTINCT process FROM held").fetchall():
                if not self._presence.is_alive(process):
                    _book_all_of(con, process)

    def close(self) -> None:
        """Book what is still set aside here and close the file."""
        for hold in list(self._holds.values()):
            self.book(hold, None, None)
        self._con.close()
        self._presence.close()


class Purse:
    """A ledger for the calls of one event loop, which wait in line for what will come back.

    Without it, a run whose calls in flight may together come to the whole budget would stop there,
    although they cost a part of it.

    Args:
        ledger: Held to.
        patience_s: Longest wait for one call's turn; no call in flight takes longer.
    """

    def __init__(self, ledger: Ledger, patience_s: float) -> None:
        self._ledger, self._patience_s = ledger, patience_s
        self._line = asyncio.Lock()
        """Held by the one call that waits; the others stand behind it in order."""
        self._booked = asyncio.Event()

    async def hold(self, usd: float | None, tokens: int) -> Hold:
        """Set money and tokens aside for a call, as `Ledger.hold` does.

        Raises:
            BudgetStopped: it could exceed the budget, or its cost is not known.
        """
        async with self._line:
            until = time.monotonic() + self._patience_s
            while True:
                self._booked.clear()
                try:
                    return self._ledger.hold(usd, tokens)
                except AllSetAside:
                    if time.monotonic() > until:
                        raise
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await self._booked.wait()
                except TimeoutError:
                    self._ledger.book_dead()

    def book(self, hold: Hold, usd: float | None, tokens: int | None) -> None:
        """Book what a call came to, as `Ledger.book` does, and let the next one look."""
        self._ledger.book(hold, usd, tokens)
        self._booked.set()


def spent_in(path: Path) -> Spent | None:
    """Return what a ledger has booked or set aside, None if there is none; changes nothing."""
    if not path.is_file():
        return None
    con = connect(path, _SCHEMA)
    try:
        row = con.execute(
            "SELECT usd + (SELECT coalesce(sum(usd), 0.0) FROM held),"
            " tokens + (SELECT coalesce(sum(tokens), 0) FROM held) FROM spent"
        ).fetchone()
    finally:
        con.close()
    return Spent(*row)


def _book_all_of(con: sqlite3.Connection, process: str) -> None:
    held = con.execute(
        "SELECT coalesce(sum(usd), 0), coalesce(sum(tokens), 0) FROM held WHERE process = ?",
        (process,),
    ).fetchone()
    con.execute("UPDATE spent SET usd = usd + ?, tokens = tokens + ?", held)
    con.execute("DELETE FROM held WHERE process = ?", (process,))
