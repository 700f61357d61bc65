"""A connection that holds the tiles of one capture's corpus, shared by the units of a hookpoint."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakeinterp.lake import queries
from lakeinterp.lake.connect import refresh
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import captured_sequences, sample_id
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import duckdb
    import pyarrow as pa

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.terms import Unit

_TILES_TO_A_CELL = 8


@dataclass(slots=True)
class Session:
    """An open connection with the temp tables `tiles` and `bins`, and `ring` once asked for."""

    lake: Lake
    capture: str
    config: SamplingConfig
    con: duckdb.DuckDBPyConnection
    corpus: str
    context_tokens: int
    n_sequences: int
    """Leading sequences of the corpus that the capture has processed."""
    sample: str
    """What the `sample` column holds for examples drawn here; see `units.sample_id`."""
    _where: dict[str, str] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _windows_of: tuple[Unit, frozenset[int]] | None = None

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

    def refresh(self, name: str) -> None:
        """Show the newest version of a table of the lake."""
        refresh(self.con, self.lake, name, self._where.get(name))

    def windows(self, unit: Unit, latents: Iterable[int]) -> None:
        """Make the table `windows` for at least these latents of a unit, unless it is there."""
        wanted = frozenset(latents)
        if self._windows_of and self._windows_of[0] == unit and wanted <= self._windows_of[1]:
            return
        self._windows_of = None
        self.run(
            "sampling/windows",
            latents=sorted(wanted),
            window_tokens=self.config.window_tokens,
            **unit_key(unit),
        )
        self._windows_of = (unit, wanted)

    def ring(self) -> int:
        """Make the table `ring` unless it is there, and return its number of cells."""
        ((n_tiles,),) = self.con.execute("SELECT count(*) FROM tiles").fetchall()
        n_cells = max(1, int(n_tiles) // _TILES_TO_A_CELL)
        if "ring" not in self._made:
            self.run("sampling/ring", n_cells=n_cells)
            self._made.add("ring")
        return n_cells

    def tokens(self) -> None:
        """Make the table `corpus_tokens` unless it is there."""
        if "tokens" not in self._made:
            self.run("stats/tokens", n_sequences=self.n_sequences, **self.text)
            self._made.add("tokens")


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
    n_sequences = captured_sequences(lake, capture)
    with lake.connect(**pruned) as con:
        con.execute("SET preserve_insertion_order = false")
        session = Session(
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
        session.run(
            "sampling/tiles",
            n_sequences=session.n_sequences,
            window_tokens=config.window_tokens,
            seed=config.seed,
            explain_share=config.explain_share,
            **session.text,
        )
        session.run("sampling/bins", window_tokens=config.window_tokens)
        yield session


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
