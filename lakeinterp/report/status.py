"""What a lake holds and what is unfinished, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Group
from rich.text import Text

from lakeinterp.lake import schema as schemas
from lakeinterp.lake import units
from lakeinterp.report import words
from lakeinterp.report.reader import rows_of
from lakeinterp.report.terminal import heading, indented, lines, plain, table
from lakeinterp.terms import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb
    from deltalake import DeltaTable
    from rich.console import RenderableType

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake

Row = dict[str, Any]


def status(lake: Lake, config: Config | None = None) -> RenderableType:
    """Return the lake's captures with how far each step got, its replies and its tables.

    Reads the log alone of `activations` and whole columns of the smaller tables.

    Args:
        lake: The lake.
        config: Its sampling settings tell the present sample from earlier ones, and what is to
            do is counted for it alone; None takes all samples together.
    """
    if not lake.tables():
        return Text(f"{lake.root} holds no table yet; `lakeinterp capture` makes the first")
    parts: list[RenderableType] = [Text(lake.root, style="bold")]
    with lake.connect() as con:
        captures = _rows(con, "captures")
        for capture in captures:
            name, n = capture["capture"], units.captured_sequences(lake, capture["capture"])
            capture["reached"] = n * int(capture["context_tokens"])
            capture["sample"] = (
                units.sample_id(lake, name, config.sampling, n_sequences=n) if config else None
            )
        found = {name: _rows(con, name) for name in _STEPS}
        found["latents"] = _rows(
            con,
            "latents",
            captures=[capture["capture"] for capture in captures],
            current=[capture["sample"] for capture in captures],
            transient=sorted(TRANSIENT),
        )
        for capture in captures:
            parts += _capture(capture, found)
        if replies := _rows(con, "replies"):
            parts += [Text(""), heading("Replies"), indented(_replies(replies))]
    return Group(*parts, Text(""), heading("Tables"), indented(_tables(lake)))


_STEPS = ("examples", "explanations", "judgements")


def _rows(con: duckdb.DuckDBPyConnection, name: str, **values: object) -> list[Row]:
    return list(rows_of(con, f"report/status_{name}", **values))


def _capture(capture: Row, found: dict[str, list[Row]]) -> list[RenderableType]:
    name = capture["capture"]
    mine = {step: [r for r in rows if r["capture"] == name] for step, rows in found.items()}
    facts = [("tokens", _tokens(capture))]
    facts += [("examples", _examples(row, capture["sample"])) for row in mine["examples"]]
    facts += [("explained", text) for text in _by_status(mine["explanations"], ("explainer",))]
    facts += [("judged", text) for text in _by_status(mine["judgements"], ("scorer", "role"))]
    facts += [("to do", text) for text in _unfinished(capture, mine)]
    parts: list[RenderableType] = [
        Text(""),
        heading(name, f"{words.place(capture['model'])} with {words.place(capture['coder'])}"),
        lines(facts),
    ]
    return [*parts, indented(_latents(mine["latents"]))] if mine["latents"] else parts


def _tokens(capture: Row) -> str:
    asked = capture["tokens_asked"]
    reached = words.count(capture["reached"])
    of = f" of {words.count(asked)} asked" if asked else ""
    return f"{reached}{of}; {words.count(capture['n_sequences'])} sequences in {capture['corpus']}"


def _latents(rows: Iterable[Row]) -> RenderableType:
    names = ("latents", "ok", "rare", "dead", "dense", "sampled", "explained", "scored")
    found = table("hookpoint", *names)
    for row in rows:
        found.add_row(plain(row["hookpoint"]), *(words.count(row[f"n_{n}"]) for n in names))
    return found


def _examples(row: Row, present: str | None) -> str:
    is_earlier = present is not None and row["sample"] != present
    earlier = " (earlier: other settings or fewer tokens)" if is_earlier else ""
    return (
        f"sample {row['sample'][:8]}{earlier}: {words.latents(row['n_latents'])}, "
        f"{words.count(row['n_explain'])} windows to explain, {words.count(row['n_score'])} "
        f"to score, {words.count(row['n_negatives'])} without the latent"
    )


def _by_status(rows: Iterable[Row], key: tuple[str, ...]) -> list[str]:
    grouped: dict[str, list[str]] = {}
    for row in rows:
        name = " · ".join(row[column] for column in key)
        counted = f"{words.count(row['n'])} {words.status_name(row['status'])}"
        grouped.setdefault(name, []).append(counted)
    return [f"{name}: {', '.join(counted)}" for name, counted in grouped.items()]


def _unfinished(capture: Row, mine: dict[str, list[Row]]) -> list[str]:
    """Return what a next command would find to do."""
    total = {
        n: sum(row[n] for row in mine["latents"])
        for n in ("n_latents", "n_known", "n_unexplained", "n_unscored")
    }
    found = []
    asked, reached = capture["tokens_asked"], capture["reached"]
    if asked and reached <= asked - int(capture["context_tokens"]):
        left = words.count(asked - reached)
        found.append(f"{left} tokens not captured (or the corpus ended): lakeinterp capture")
    if missing := total["n_latents"] - total["n_known"]:
        found.append(f"{words.latents(missing)} not counted: lakeinterp sample")
    samples = {row["sample"] for row in mine["examples"]}
    if samples and capture["sample"] and capture["sample"] not in samples:
        found.append("no examples with these settings from all tokens: lakeinterp sample")
    if missing := total["n_unexplained"]:
        found.append(f"{words.latents(missing)} sampled, not explained: lakeinterp explain")
    if missing := total["n_unscored"]:
        found.append(f"{words.latents(missing)} explained, not scored: lakeinterp score")
    return found


def _replies(rows: Iterable[Row]) -> RenderableType:
    found = table("model", "status", "replies", "prompt tokens", "reply tokens", "cost")
    for row in rows:
        state = row["cost_state"]
        cost = words.dollars(row["cost_usd"]) if state == "priced" else (state or "unknown")
        found.add_row(
            plain(row["model"] or "unknown"),
            words.status_name(row["status"]),
            words.count(row["n"]),
            words.count(row["prompt_tokens"]),
            words.count(row["completion_tokens"]),
            cost,
        )
    return found


def _files(delta: DeltaTable) -> list[Row]:
    """Return the log's entry of every file of a table."""
    files: list[Row] = pa.table(delta.get_add_actions(flatten=True)).to_pylist()
    return files


def _tables(lake: Lake) -> RenderableType:
    found = table("table", "rows", "files", "size", "version")
    for name in schemas.TABLES:
        delta = lake.table(name)
        if delta is None:
            continue
        files = _files(delta)
        n_rows = sum(file["num_records"] or 0 for file in files)
        found.add_row(
            name,
            words.count(n_rows),
            words.count(len(files)),
            words.n_bytes(sum(file["size_bytes"] for file in files)),
            str(delta.version()),
        )
    return found
