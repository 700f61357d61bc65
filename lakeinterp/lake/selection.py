"""Which latents of a hookpoint the settings choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.errors import ConfigError, QueryError
from lakeinterp.lake import queries
from lakeinterp.lake import schema as schemas
from lakeinterp.lake.connect import connect_to, lock
from lakeinterp.lake.faults import query_error
from lakeinterp.lake.tables import where

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake

_NO_LIMIT = 2**31 - 1


def chosen_latents(
    lake: Lake, capture: str, hookpoint: str, sampling: SamplingConfig, *, n_latents: int
) -> Sequence[int]:
    """Return the latents of a hookpoint that the settings choose, sorted.

    Listed latents are taken as they are, dead or not; otherwise those with
    `sampling.min_windows` windows or more. Of either those that fulfil `sampling.where`, and of
    those at most `sampling.max_latents`, a random choice by `sampling.seed`. All but a plain list
    needs the hookpoint's rows in the `latents` table.

    Args:
        lake: The lake.
        capture: Capture id.
        hookpoint: Its name.
        sampling: The settings.
        n_latents: Width of its coder.

    Raises:
        ConfigError: a listed latent is outside the coder's width, or `sampling.where` is not one
            condition on the columns of `latents`.
    """
    if wrong := [i for i in sampling.latents if not 0 <= i < n_latents]:
        raise ConfigError(
            f"sampling.latents: {hookpoint} has latents 0 to {n_latents - 1}, not {_some(wrong)}"
        )
    listed = sorted(set(sampling.latents))
    if listed and not sampling.where and sampling.max_latents is None:
        return listed
    key = {"capture": capture, "hookpoint": hookpoint}
    with connect_to(lake, ["latents"], {"latents": where(**key)}) as con:
        queries.load("macros/mix").run(con)
        lock(con, lake)
        among = _fulfilling(con, sampling.where, key) if sampling.where else None
        if listed:
            among = listed if among is None else sorted(set(among).intersection(listed))
        rows = queries.load("sampling/select").run(
            con,
            among=among,
            min_windows=0 if listed else sampling.min_windows,
            max_latents=sampling.max_latents or _NO_LIMIT,
            seed=sampling.seed,
            **key,
        )
        return [latent for (latent,) in rows.fetchall()]


def check_condition(lake: Lake, sampling: SamplingConfig) -> None:
    """Refuse a wrong `sampling.where` before there are rows that it could be put to.

    Raises:
        ConfigError: it is not one condition on the columns of `latents`.
    """
    if not sampling.where:
        return
    nothing = {"capture": "", "hookpoint": ""}
    with connect_to(lake, ["latents"], {"latents": where(**nothing)}) as con:
        lock(con, lake)
        _fulfilling(con, sampling.where, nothing)


def _fulfilling(con: duckdb.DuckDBPyConnection, condition: str, key: dict[str, str]) -> list[int]:
    """Return the latents for which a condition given by the user is true.

    DuckDB parses it as one expression, so that it can neither end the statement nor begin another
    one; the connection reads the lake's own files and nothing else.
    """
    import duckdb

    columns = ", ".join(schemas.table("latents").columns[2:])
    try:
        expression = duckdb.SQLExpression(condition)
        rows = con.sql(
            "SELECT * FROM latents WHERE capture = $capture AND hookpoint = $hookpoint", params=key
        )
        kinds = [str(kind) for kind in rows.select(expression).types]
        if kinds != ["BOOLEAN"]:
            raise ConfigError(
                f"sampling.where: {condition!r} is {', '.join(kinds)}, not true or false; compare "
                f"columns: {columns}"
            )
        return [latent for (latent,) in rows.filter(expression).select("latent").fetchall()]
    except duckdb.Error as exc:
        if not isinstance(fault := query_error(exc), QueryError):
            raise fault from exc
        said = str(exc).splitlines()[0].rstrip(".!")
        raise ConfigError(
            f"sampling.where: {condition!r}: {said}; columns of latents: {columns}"
        ) from exc


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown}, …" if len(numbers) > 5 else shown
