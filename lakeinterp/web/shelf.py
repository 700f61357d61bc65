"""What lists of latents need of one capture, gathered once into a small database beside the lake.

The lake's tables are sorted for other questions. A shelf holds two narrow tables, made by
`sql/web/numbers.sql` and `sql/web/texts.sql`, in a file of the server's own temporary folder, and
what the room `report` counts over a whole capture. When the lake changes another shelf is made in
the background; until then the old one answers.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import finalize

import duckdb

from lakeinterp.errors import LakeinterpError
from lakeinterp.lake import queries, where
from lakeinterp.lake.tables import literal
from lakeinterp.report.facts import facts
from lakeinterp.report.page import Names
from lakeinterp.report.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.report.facts import Fact
    from lakeinterp.report.records import Pair, Summary, Unexplained

_log = logging.getLogger(__name__)
_READ = ("captures", "hookpoints", "vocabulary", "latents", "explanations", "scores")
"""Tables whose change makes a shelf old."""
_N_TOKENS = 6
_FEW = 100_000
"""Latents whose sums are counted before anybody asks."""
_LATER_S = 3.0
_LOOK_EVERY_S = 5.0
_REST = 10.0
"""Times as long as making a shelf took, that passes before the next one is made."""
PLACES = 2**32
"""A latent's place is its hookpoint's number times this plus its own."""


class ServedNames(Names):
    """Names with the models behind them as soon as those were counted."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf.reader)
        self._shelf = shelf

    def cost(self, hookpoint: str, explainer: str) -> str:
        """Return what an explainer's own replies cost at a hookpoint; empty if not yet known."""
        return super().cost(hookpoint, explainer) if self._shelf.is_counted else ""

    def explainer(self, name: str) -> str:
        """Return an explainer as what it is."""
        return super().explainer(name) if self._shelf.is_counted else name

    def scorer(self, explainer: str, name: str) -> str:
        """Return a scorer as what it is."""
        return super().scorer(explainer, name) if self._shelf.is_counted else name


class Shelf:
    """One capture as lists need it; safe for many threads."""

    def __init__(self, lake: Lake, config: Config, capture: str, folder: Path) -> None:
        """Read the capture; takes seconds for a million latents.

        Args:
            lake: The lake.
            config: `score.headline`, `explain.explainer` and `score.scorers` choose what latents
                are sorted by at first.
            capture: Name.
            folder: Where the database goes; it is deleted with the shelf.
        """
        start = time.monotonic()
        self.versions = versions(lake)
        self.made_at = datetime.now(UTC)
        self.reader = Reader(lake, config, capture)
        self.capture = self.reader.name
        self.pairs: tuple[Pair, ...] = self.reader.pairs or (self.reader.headline,)
        self.hookpoints = tuple(h.hookpoint for h in self.reader.hookpoints)
        self.n_latents = sum(h.n_latents for h in self.reader.hookpoints)
        self.vocabulary, self.newest_sample = self.reader.vocabulary, self.reader.newest_sample
        path = folder / f"shelf-{uuid4().hex[:8]}.duckdb"
        self._fill(path)
        self._database = duckdb.connect(str(path), read_only=True)
        self._end = finalize(self, _drop, self._database, path)
        self.low = self._lowest()
        self.names = ServedNames(self)
        self.is_counted = False
        self._lock = threading.Lock()
        self._summaries: dict[str, tuple[Summary, ...]] | None = None
        self._unexplained: list[Unexplained] | None = None
        self._facts: list[Fact] | None = None
        self.seconds = time.monotonic() - start

    def place(self, hookpoint: str, latent: int) -> int:
        """Return the number that stands for a latent in the shelf's tables."""
        return self.hookpoints.index(hookpoint) * PLACES + latent

    def latent(self, place: int) -> tuple[str, int]:
        """Return the hookpoint and number of a latent by its place."""
        number, latent = divmod(place, PLACES)
        return self.hookpoints[number], latent

    def rows(self, name: str, **values: object) -> list[dict[str, Any]]:
        """Run a statement over the shelf's tables, as `web/listing`."""
        with self._database.cursor() as con:
            found: list[dict[str, Any]] = queries.load(name).table(con, **values).to_pylist()
        return found

    def count(self) -> None:
        """Count what pages of a whole capture show, as far as that is soon done.

        Pages name the models behind explanations and scores from then on.
        """
        with self._lock:
            _ = self.reader.costs
        self.is_counted = True
        if self.n_latents <= _FEW:
            self.summaries()
            self.unexplained()

    def facts(self) -> list[Fact]:
        """Return the facts of the capture."""
        with self._lock:
            if self._facts is None:
                self._facts = facts(self.reader)
                self.is_counted = True
            return self._facts

    def summaries(self) -> dict[str, tuple[Summary, ...]]:
        """Return each hookpoint's summaries; the first call takes long, the others nothing."""
        with self._lock:
            if self._summaries is None:
                self._summaries = self.reader.summaries()
                self.is_counted = True
            return self._summaries

    def unexplained(self) -> list[Unexplained]:
        """Return the latents that nobody explained, by reason; as `summaries`."""
        with self._lock:
            if self._unexplained is None:
                self._unexplained = self.reader.unexplained()
            return self._unexplained

    def _fill(self, path: Path) -> None:
        mine = where(capture=self.capture)
        tables = dict.fromkeys(("latents", "explanations", "scores"), mine)
        headline = {
            "capture": self.capture,
            "metric": self.reader.metric,
            "hookpoints": list(self.hookpoints),
            "explainers": [pair.explainer for pair in self.pairs],
            "scorers": [pair.scorer for pair in self.pairs],
        }
        texts = {
            "capture": self.capture,
            "tokenizer": str(self.reader.capture["tokenizer"]),
            "hookpoints": list(self.hookpoints),
            "n_tokens": _N_TOKENS,
        }
        with self.reader.lake.connect(**tables) as con:
            con.execute(f"SET temp_directory = {literal(str(path.parent))}")
            con.execute(f"ATTACH {literal(str(path))} AS shelf")
            for table, values in (("numbers", headline), ("texts", texts)):
                query = queries.load(f"web/{table}").sql
                con.execute(f"CREATE TABLE shelf.shelf_{table} AS {query}", values)
            con.execute("DETACH shelf")

    def _lowest(self) -> float:
        """Return where the scale of scores begins: at -1 if one is below zero, else at 0."""
        (row,) = self.rows("web/lowest")
        return -1.0 if (row["lowest"] or 0) < 0 else 0.0


class Shelves:
    """The shelves of a lake's captures, made when they are asked for and again when it changes."""

    def __init__(self, lake: Lake, config: Config, folder: Path) -> None:
        self._lake, self._config, self._folder = lake, config, folder
        self._made: dict[str, Shelf] = {}
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._look_at = 0.0
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()

    def get(self, capture: str | None = None) -> Shelf:
        """Return a capture's shelf; without a name that of the newest capture.

        Raises:
            NotFound: no such capture, or the lake has none.
        """
        name = capture or self._newest()
        if name not in self._made:
            with self._making:
                if name not in self._made:
                    self._make(name)
        self._look()
        return self._made[name]

    def known(self, capture: str | None = None) -> Shelf:
        """Return a shelf that is made already, a capture's own if it is."""
        return self._made.get(capture or "") or next(iter(self._made.values()))

    def captures(self) -> list[dict[str, Any]]:
        """Return the rows of all captures, the newest first."""
        rows = self._lake.rows("captures")
        return sorted(rows, key=lambda row: (row["created_at"], row["capture"]), reverse=True)

    def refresh(self) -> None:
        """Make those shelves again whose tables have changed, and wait for it."""
        with self._making:
            found = versions(self._lake)
            for name in [n for n, shelf in self._made.items() if shelf.versions != found]:
                self._make(name)

    def close(self) -> None:
        """Wait for what is made in the background."""
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def _begin(self, work: Callable[[], None]) -> None:
        if not self._closing.is_set():
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(threading.Thread(target=work, daemon=True))
            self._threads[-1].start()

    def _count(self, shelf: Shelf) -> None:
        """Count a shelf's sums a little later: the first pages come before them."""
        if not self._closing.wait(_LATER_S):
            shelf.count()

    def _newest(self) -> str:
        rows = self.captures()
        return str(rows[0]["capture"] if rows else self._lake.capture()["capture"])

    def _make(self, name: str) -> None:
        known = str(self._lake.capture(name)["capture"])
        shelf = Shelf(self._lake, self._config, known, self._folder)
        self._made[known] = shelf
        self._look_at = time.monotonic() + max(_LOOK_EVERY_S, _REST * shelf.seconds)
        self._begin(lambda: self._count(shelf))

    def _look(self) -> None:
        """See in the background whether the lake has changed, now and then."""
        with self._lock:
            if time.monotonic() < self._look_at:
                return
            self._look_at = time.monotonic() + _LOOK_EVERY_S
        self._begin(self._refreshed)

    def _refreshed(self) -> None:
        try:
            self.refresh()
        except (LakeinterpError, duckdb.Error, OSError) as exc:
            _log.warning("the lake changed and cannot be read again: %s", exc)


def versions(lake: Lake) -> dict[str, int]:
    """Return the versions of the tables that a shelf is made from."""
    return {name: lake.version(name) for name in _READ}


def _drop(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    database.close()
    path.unlink(missing_ok=True)
