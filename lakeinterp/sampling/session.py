"""A connection that holds the tiles of one capture's corpus, shared by the units of a hookpoint."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from lakeinterp.lake import queries
from lakeinterp.lake.connect import refresh
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import sample_id, sampled_sequences
from lakeinterp.sampling import runs
from lakeinterp.sampling.fired import in_order
from lakeinterp.sampling.placing import Setting
from lakeinterp.sampling.tiles import Tiles, read_tiles
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import duckdb
    import pyarrow as pa

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.choice import Choice
    from lakeinterp.sampling.near import Fires
    from lakeinterp.terms import Unit

_ROWS_AT_ONCE = 8_000_000
"""Activations that are cut into windows in one go; some 60 bytes each."""


@dataclass(slots=True)
class Shared:
    """What the sessions of a hookpoint read once; take the lock to look or to add."""

    lock: Lock = field(default_factory=Lock)
    fires: Fires | None = None
    """Where latents fire, other units' too, once neighbours were asked for."""
    tiles_lock: Lock = field(default_factory=Lock)
    tiles: Tiles | None = None
    """The tiles of the corpus, once they were asked for."""
    choice_lock: Lock = field(default_factory=Lock)
    choice: Choice | None = None
    """The latents of the hookpoint that the settings choose, once they were asked for."""
    n_to_audit: int = 0
    """Units still to be put to every statement of `sql/audit`, whatever `checks` says of them."""

    def is_first_audit(self) -> bool:
        """Take one of `n_to_audit`; False if none is left."""
        with self.lock:
            self.n_to_audit -= 1
            return self.n_to_audit >= 0


@dataclass(slots=True)
class Session:
    """An open connection with the temp tables `tiles` and `lookup`, and others once asked for."""

    lake: Lake
    capture: str
    config: SamplingConfig
    con: duckdb.DuckDBPyConnection
    corpus: str
    context_tokens: int
    n_sequences: int
    """Leading sequences of the corpus that windows are cut from."""
    sample: str
    """What the `sample` column holds for examples drawn here; see `units.sample_id`."""
    shared: Shared = field(default_factory=Shared)
    """What it has in common with the other sessions of its hookpoint."""
    found: runs.Windows = field(default_factory=runs.Windows.none)
    """The windows that were cut last."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What the steps keep to themselves from one unit to the next."""
    _where: dict[str, str] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _derived: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def at(self) -> int | None:
        """Tokens of a window before its peak; None if windows are shown as they were cut."""
        config = self.config
        if config.placement == "aligned":
            return None
        return min(int(config.peak_at * config.window_tokens), config.window_tokens - 1)

    @property
    def text(self) -> dict[str, Any]:
        """Parameters that find the text of the capture."""
        return {"corpus": self.corpus, "context_tokens": self.context_tokens}

    def run(self, name: str, **values: Any) -> None:
        """Run a statement for what it makes."""
        queries.load(name).run(self.con, **values)

    def once(self, name: str, **values: Any) -> bool:
        """Run a statement for what it makes unless it was run; return whether it was run now."""
        if name in self._made:
            return False
        self.run(name, **values)
        self._made.add(name)
        return True

    def widen(self, name: str, **key: str | int) -> None:
        """Show all rows of a table that have these values, for what reaches beyond a unit."""
        if self._where.get(name) != where(**key):
            self._where[name] = where(**key)
            self.refresh(name)

    def refresh(self, name: str) -> None:
        """Show the newest version of a table of the lake."""
        self._derived.pop(name, None)
        refresh(self.con, self.lake, name, self._where.get(name))

    def derived(self, name: str) -> dict[str, Any]:
        """Return where to keep what was made from a table's rows as long as they are shown."""
        return self._derived.setdefault(name, {})

    @property
    def tiles(self) -> Tiles:
        """The tiles of the corpus as arrays, one set of them for all sessions of a hookpoint."""
        with self.shared.tiles_lock:
            if self.shared.tiles is None:
                self.shared.tiles = read_tiles(self.con)
            return self.shared.tiles

    @property
    def setting(self) -> Setting:
        """How windows are shown."""
        return Setting(self.config.window_tokens, self.at)

    def show(self, name: str, rows: pa.Table) -> None:
        """Let statements read rows under a name."""
        self.con.register(name, rows)

    def windows(self, unit: Unit, latents: Iterable[int]) -> None:
        """Cut the windows of some latents of a unit, in `found` and as the relation `windows`.

        Those of latents between them are there too.
        """
        self.found = self._cut(unit, sorted(latents))
        self.show("windows", self.found.table())

    def cut(self, unit: Unit, latents: Sequence[int]) -> Iterator[pa.Table]:
        """Yield the windows of some sorted latents of a unit, and of those in between.

        A few latents at a time; columns as in `runs.COLUMNS`.
        """
        for some in self.portions(unit, latents):
            yield self._cut(unit, some).table()

    def _cut(self, unit: Unit, latents: Sequence[int]) -> runs.Windows:
        tiles = self.tiles
        rows = queries.load("sampling/fired").table(
            self.con,
            first=min(latents, default=0),
            last=max(latents, default=-1),
            n_tokens=len(tiles.of_token),
            **unit_key(unit),
        )
        return runs.windows(in_order(rows), tiles.of_token, n_quantiles=self.config.n_quantiles)

    def portions(self, unit: Unit, latents: Sequence[int]) -> list[list[int]]:
        """Return latents in groups whose activations fit in memory, if they fire about equally."""
        rows = queries.load("sampling/extent").run(self.con, **unit_key(unit)).fetchall()
        n = min(len(latents), -(-int(rows[0][0]) // _ROWS_AT_ONCE))
        return [group.tolist() for group in np.array_split(latents, max(n, 1)) if len(group)]


@contextmanager
def open_session(
    lake: Lake,
    capture: str,
    config: SamplingConfig,
    *,
    hookpoint: str | None = None,
    bucket: int | None = None,
) -> Iterator[Session]:
    """Open a connection and cut the captured part of the corpus into tiles.

    Args:
        lake: The lake.
        capture: Capture id.
        config: Sampling settings.
        hookpoint: Only this hookpoint's files are listed; None lists those of the capture.
        bucket: Only this bucket's; None lists those of the hookpoint.

    Raises:
        NotFound: no such capture.
    """
    row = lake.capture(capture)
    chosen = {"capture": capture, "hookpoint": hookpoint, "bucket": bucket}
    key = where(**{name: value for name, value in chosen.items() if value is not None})
    unit = where(capture=capture, **({"hookpoint": hookpoint} if hookpoint else {}))
    corpus = where(corpus=row["corpus"])
    pruned = {"activations": key, "examples": key, "latents": unit, "sequences": corpus}
    n_sequences = sampled_sequences(lake, capture, config)
    with lake.connect(**pruned) as con:
        con.execute("SET preserve_insertion_order = false")
        text = {"corpus": row["corpus"], "context_tokens": row["context_tokens"]}
        queries.load("sampling/tiles").run(
            con,
            n_sequences=n_sequences,
            window_tokens=config.window_tokens,
            seed=config.seed,
            explain_share=config.explain_share,
            **text,
        )
        queries.load("sampling/lookup").run(con, n_sequences=n_sequences, **text)
        yield Session(
            lake=lake,
            capture=capture,
            config=config,
            con=con,
            corpus=row["corpus"],
            context_tokens=row["context_tokens"],
            n_sequences=n_sequences,
            sample=sample_id(lake, capture, config, n_sequences=n_sequences),
            _where=pruned,
        )


@contextmanager
def session_for(
    lake: Lake, unit: Unit, config: SamplingConfig, session: Session | None
) -> Iterator[Session]:
    """Yield the session given, or one opened for this unit alone."""
    if session is not None:
        yield session
        return
    with open_session(
        lake, unit.capture, config, hookpoint=unit.hookpoint, bucket=unit.bucket
    ) as opened:
        yield opened


@contextmanager
def shown_as(session: Session, name: str, rows: pa.Table) -> Iterator[None]:
    """Let rows stand for a table of the lake while the block runs."""
    session.con.register(name, rows)
    try:
        yield
    finally:
        session.con.unregister(name)


def unit_key(unit: Unit) -> dict[str, Any]:
    """Return the parameters that name a unit."""
    return {"capture": unit.capture, "hookpoint": unit.hookpoint, "bucket": unit.bucket}


def stamp(statements: tuple[str, ...], *made_from: object) -> int:
    """Return a number for what rows are made from: the statements and whatever else decides.

    Recorded with the rows' commit; an equal stamp means that a rerun would write equal rows.
    """
    texts = [queries.load(name).sql for name in (*statements, "macros/mix")]
    return int(digest([texts, *made_from]), 16) >> 2 | 1
