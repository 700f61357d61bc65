"""`lakeinterp sql`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lakeinterp.commands.common import Common, console
from lakeinterp.config import read_text
from lakeinterp.errors import ConfigError, NotFound

_DEFAULT = Common()


def sql(
    query: Annotated[str | None, Parameter(help="The statement.")] = None,
    /,
    *,
    file: Annotated[Path | None, Parameter(help="Read the statement from a file.")] = None,
    format: Annotated[
        Literal["table", "csv", "json", "parquet"] | None,
        Parameter(help="How rows are written. [default: by the name of --output, else table]"),
    ] = None,
    output: Annotated[Path | None, Parameter(help="Write to this file.")] = None,
    common: Common = _DEFAULT,
) -> None:
    """Run one read-only SQL statement over the lake's tables.

    The tables are views: captures, hookpoints, sequences, vocabulary, activations, latents,
    neighbours, history, examples, explanations, judgements, scores, replies.
    """
    from lakeinterp.report.output import format_of, write_result

    lake = common.open(common.load())
    relation = lake.sql(_statement(query, file))
    n_rows = write_result(
        relation, format=format_of(format, output), output=output, console=console()
    )
    if output is not None:
        console(stderr=True).print(f"{n_rows:,} rows to {output}")


def _statement(query: str | None, file: Path | None) -> str:
    if (query is None) == (file is None):
        raise ConfigError("sql: give a statement or --file, one of the two")
    if file is None:
        return query or ""
    if not file.is_file():
        raise NotFound("file", str(file))
    return read_text(file)
