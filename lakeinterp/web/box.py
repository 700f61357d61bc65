"""The SQL box: one read-only statement at a time, each with an end, in threads of its own.

A statement runs on a connection that can reach the lake's own files and nothing else. It ends by
itself, at the time limit, or when somebody stops it; what it gave is kept for a while.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Literal

import duckdb

from lakeinterp.errors import ConfigError, LakeinterpError, NotFound, QueryError
from lakeinterp.lake import queries
from lakeinterp.lake.connect import database, lock, require_reading, show
from lakeinterp.lake.faults import query_error
from lakeinterp.report.output import Format, Rows, first_rows, write_result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lakeinterp.config import ServeConfig
    from lakeinterp.lake import Lake
    from lakeinterp.lake.queries import Query

State = Literal["running", "done", "failed", "stopped"]
FORMATS: dict[str, Format] = {"table": "table", "csv": "csv", "parquet": "parquet"}
_KEPT, _AT_ONCE, _AGAIN_S = 30, 2, 0.1
_REPORT = "report"
_HEADER = re.compile(r"-- (name|column|grain):|--   ")
_TYPE = re.compile(r"[A-Z][A-Z0-9_ ]*(\[\])?")
_PARAM = re.compile(r"^-- param: (\w+)\s+([A-Z][A-Z ]*(?:\[\])?)", re.MULTILINE)


@dataclass(slots=True)
class Job:
    """One statement that was asked for."""

    sql: str
    format: Format
    values: dict[str, str]
    """Of the statement's parameters, as they were written."""
    id: str = field(default_factory=lambda: token_urlsafe(12))
    state: State = "running"
    said: str = ""
    """Why it failed or was stopped."""
    rows: Rows | None = None
    file: Path | None = None
    n_rows: int = 0
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)
    con: duckdb.DuckDBPyConnection | None = None
    thread: threading.Thread | None = None

    @property
    def elapsed(self) -> float:
        """Seconds it ran, or has run so far."""
        return self.seconds if self.done.is_set() else time.monotonic() - self.started


class Box:
    """Runs statements and keeps what they gave."""

    def __init__(self, lake: Lake, config: ServeConfig, folder: Path) -> None:
        self._lake, self._config, self._folder = lake, config, folder
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, sql: str, values: Mapping[str, str], format: str = "table") -> Job:
        """Begin a statement.

        Args:
            sql: The statement.
            values: Of its parameters, by name.
            format: `table` keeps the first rows, `csv` and `parquet` write a file.

        Raises:
            NotFound: no such format.
            ConfigError: as many statements run as may at one time.
        """
        if format not in FORMATS:
            raise NotFound("format", format, FORMATS)
        job = Job(sql, FORMATS[format], dict(values))
        with self._lock:
            if sum(one.state == "running" for one in self._jobs.values()) >= _AT_ONCE:
                raise ConfigError(f"{_AT_ONCE} statements are running; stop one or wait")
            self._jobs[job.id] = job
            while len(self._jobs) > _KEPT:
                self._forget_oldest()
        job.thread = threading.Thread(target=self._run, args=(job,), daemon=True)
        job.thread.start()
        return job

    def job(self, name: str) -> Job:
        """Return a statement that was asked for.

        Raises:
            NotFound: it is not kept, or no longer.
        """
        if (found := self._jobs.get(name)) is None:
            raise NotFound("result", name, hint="results are kept for a while only; run it again")
        return found

    def stop(self, name: str) -> Job:
        """Stop a statement; one that has ended stays as it is."""
        job = self.job(name)
        self._end(job, "stopped")
        return job

    def close(self) -> None:
        """Stop what runs and wait for its end."""
        for job in list(self._jobs.values()):
            self._end(job, "the server ends")
            if job.thread is not None:
                job.thread.join()

    def _forget_oldest(self) -> None:
        name = next(n for n, job in self._jobs.items() if job.state != "running")
        if (file := self._jobs.pop(name).file) is not None:
            file.unlink(missing_ok=True)

    def _end(self, job: Job, why: str) -> None:
        if not job.done.is_set():
            job.said = job.said or why
            threading.Thread(target=_interrupt, args=(job,), daemon=True).start()

    def _run(self, job: Job) -> None:
        limit = self._config.sql_seconds
        late = f"it took longer than {limit} s (serve.sql_seconds)"
        timer = threading.Timer(limit, self._end, (job, late))
        timer.daemon = True
        timer.start()
        try:
            with self._connection() as con:
                job.con = con
                self._answer(job, con)
            job.state = "done"
        except (LakeinterpError, duckdb.Error, OSError) as exc:
            self._failed(job, exc)
        finally:
            timer.cancel()
            timer.join()
            job.con, job.seconds = None, time.monotonic() - job.started
            job.done.set()

    def _answer(self, job: Job, con: duckdb.DuckDBPyConnection) -> None:
        if job.said:
            raise QueryError(job.said)
        require_reading(con, job.sql)
        show(con, self._lake, job.sql)
        try:
            relation = con.sql(job.sql, params=_bound(con, job))
            if relation is None:
                raise QueryError("the statement gives no rows")
            if job.format == "table":
                job.rows = first_rows(relation, self._config.sql_rows)
                job.n_rows = len(job.rows.rows)
            else:
                job.file = self._folder / f"result-{job.id}.{job.format}"
                most = relation.limit(self._config.download_rows)
                job.n_rows = write_result(most, format=job.format, output=job.file)
        except duckdb.Error as exc:
            raise query_error(exc) from exc

    def _failed(self, job: Job, exc: Exception) -> None:
        job.state = "stopped" if job.said else "failed"
        job.said = job.said or str(exc)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        con = database(self._lake)
        con.execute("SET memory_limit = $limit", {"limit": self._config.sql_memory})
        con.execute("SET temp_directory = $place", {"place": str(self._folder)})
        con.execute("SET max_temp_directory_size = '8GB'")
        lock(con, self._lake)
        return con


def _interrupt(job: Job) -> None:
    """Interrupt a job until it ends: what comes before its statement has begun is lost."""
    ended = False
    while not ended:
        if (con := job.con) is not None:
            with suppress(duckdb.ConnectionException):  # closed meanwhile: it ends by itself
                con.interrupt()
        ended = job.done.wait(_AGAIN_S)


def parameters(sql: str) -> dict[str, str]:
    """Return a statement's parameters and their types as its header has them, else VARCHAR.

    A statement that does not parse has none.
    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error:
        return {}
    named = sorted(statements[0].named_parameters) if len(statements) == 1 else []
    declared = {name: kind.strip() for name, kind in _PARAM.findall(sql)}
    order = [*declared, *(name for name in named if name not in declared)]
    return {name: declared.get(name, "VARCHAR") for name in order if name in named}


def saved() -> dict[str, list[Query]]:
    """Return the statements that ship with lakeinterp: questions people ask, and the report's."""
    found = {"Questions": f"{_REPORT}/cookbook", "What reports are made of": _REPORT}
    names = {title: queries.names(folder) for title, folder in found.items()}
    asked = set(names["Questions"])
    return {
        title: [queries.load(name) for name in listed if title == "Questions" or name not in asked]
        for title, listed in names.items()
        if listed
    }


def shown(query: Query) -> str:
    """Return a statement as the box shows it: with the header's words and parameters alone."""
    kept = (line for line in query.sql.splitlines() if not _HEADER.match(line))
    return "\n".join(kept).strip() + "\n"


def _bound(con: duckdb.DuckDBPyConnection, job: Job) -> dict[str, Any]:
    """Return the values of a statement's parameters in the types that its header gives them."""
    bound: dict[str, Any] = {}
    for name, kind in parameters(job.sql).items():
        text = job.values.get(name, "")
        if kind == "VARCHAR":
            bound[name] = text
        elif not text:
            bound[name] = [] if kind.endswith("[]") else None
        elif _TYPE.fullmatch(kind):
            bound[name] = _cast(con, name, kind, text)
        else:
            raise ConfigError(f"${name}: {kind} cannot be written here")
    return bound


def _cast(con: duckdb.DuckDBPyConnection, name: str, kind: str, text: str) -> Any:
    listed = f"[{text}]" if kind.endswith("[]") and not text.startswith("[") else text
    try:
        ((value,),) = con.execute(f"SELECT CAST($text AS {kind})", {"text": listed}).fetchall()
    except duckdb.Error as exc:
        raise ConfigError(f"${name}: {text!r} is no {kind}") from exc
    return value
