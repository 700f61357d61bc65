"""Which request is being asked by which process: two on the same work buy a reply once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.chat.database import connect
from lakeinterp.chat.presence import Presence

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, holder TEXT NOT NULL) WITHOUT ROWID;
"""


CLAIMS = "claims.sqlite"
"""Name of the file in the journal's folder."""


class Claims:
    """A SQLite file beside the journal, which the processes of this machine share.

    A claim holds for as long as whoever made it lives and has not given it back. Losing the file
    loses nothing but the knowledge of what is under way, so no write waits for the disk.

    Args:
        path: Made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._presence = Presence(path.parent)
        self._me = self._presence.name
        self._con = connect(path, _SCHEMA, synchronous="OFF")

    def take(self, key: str) -> bool:
        """Claim a request; False if another living process asks it now."""
        if self._con.execute(
            "INSERT OR IGNORE INTO claims VALUES (?, ?)", (key, self._me)
        ).rowcount:
            return True
        held = self._con.execute("SELECT holder FROM claims WHERE key = ?", (key,)).fetchone()
        if held is None or self._presence.is_alive(held[0]):
            return False
        taken = self._con.execute(
            "UPDATE claims SET holder = ? WHERE key = ? AND holder = ?", (self._me, key, held[0])
        )
        return bool(taken.rowcount)

    def give(self, key: str) -> None:
        """Give a claim back: its reply is stored, or there is none."""
        self._con.execute("DELETE FROM claims WHERE key = ? AND holder = ?", (key, self._me))

    def close(self) -> None:
        """Give back what is left and close the file."""
        self._con.execute("DELETE FROM claims WHERE holder = ?", (self._me,))
        self._con.close()
        self._presence.close()
