"""`lakeinterp replies`: what the language models said, as it came."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter, validators

from lakeinterp.commands.common import Common, console
from lakeinterp.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake

_DEFAULT = Common()
_SHOWN_KEYS = 12

replies = App(
    name="replies",
    help="List, show, count and export the stored replies of language models.",
    help_format="plaintext",
    version_flags=[],
    group_commands=Group("Commands"),
)
"""The application of the subcommands; its place and help are the command table's."""

StatusOption = Annotated[
    Literal["ok", "refused", "truncated", "http_error", "timeout", "budget_stopped"] | None,
    Parameter(help="Only these."),
]
RouteOption = Annotated[Literal["explainer", "judge"] | None, Parameter(help="Only these.")]


@replies.command(name="list")
def list_(
    *,
    status: StatusOption = None,
    route: RouteOption = None,
    limit: Annotated[
        int, Parameter(help="At most so many.", validator=validators.Number(gte=1))
    ] = 20,
    common: Common = _DEFAULT,
) -> None:
    """List replies, the newest first."""
    _write("replies/listed", common, status=status or "", route=route or "", n=limit)


@replies.command
def count(*, common: Common = _DEFAULT) -> None:
    """Count replies by model, status and what is known of their cost, with tokens and money.

    Below stands what the budget counts as spent: calls that may be billed without a reply, or
    beyond what was told, are in it with the most they can cost.
    """
    from lakeinterp.chat.ledger import FILE, spent_in
    from lakeinterp.chat.store import folder_of

    config = common.load()
    _write("report/status_replies", common)
    if (spent := spent_in(folder_of(common.open(config), config.chat) / FILE)) is not None:
        said = f"the budget counts ${spent.usd:.4f} and {spent.tokens:,} tokens as spent"
        console().print(f"{said}, calls of unknown cost at the most they can be", markup=False)


@replies.command
def show(
    key: Annotated[str, Parameter(help="Of the reply, or how it begins.")],
    /,
    *,
    common: Common = _DEFAULT,
) -> None:
    """Show one reply whole: what was asked, what was said, what it cost."""
    from rich.text import Text

    config = common.load()
    lake = _open(config, common)
    found = _rows(lake, status="", route="", prefix=key)
    rows = [row for row, _ in zip(found, range(_SHOWN_KEYS), strict=False)]
    if not rows:
        raise NotFound("reply", key, hint="`lakeinterp replies list` shows keys")
    if len(rows) > 1:
        keys = ", ".join(row["key"] for row in rows)
        raise ConfigError(f"several replies begin with {key!r}: {keys}")
    out = console()
    for line in _told(rows[0]):
        out.print(Text(line), soft_wrap=True)


@replies.command
def export(
    output: Annotated[Path, Parameter(help="File: .jsonl or .parquet.")],
    /,
    *,
    status: StatusOption = None,
    route: RouteOption = None,
    common: Common = _DEFAULT,
) -> None:
    """Write whole replies to a file, as JSON lines or Parquet."""
    writers = {".jsonl": _write_lines, ".parquet": _write_parquet}
    if (write := writers.get(output.suffix)) is None:
        raise ConfigError(f"{output}: name a file that ends in {' or '.join(writers)}")
    lake = _open(common.load(), common)
    n_rows = write(lake, output, {"status": status or "", "route": route or "", "prefix": ""})
    console(stderr=True).print(f"{n_rows:,} replies to {output}", markup=False)


@replies.command
def move(*, common: Common = _DEFAULT) -> None:
    """Move what a killed run left in the journal to the lake; explain and score do so as well."""
    from lakeinterp.chat.store import ReplyStore, folder_of

    config = common.load()
    lake = common.open(config)
    store = ReplyStore(lake, folder_of(lake, config.chat))
    try:
        n_moved = store.move()
    finally:
        store.close()
    console().print(f"{n_moved:,} replies moved")


def _open(config: Config, common: Common) -> Lake:
    """Open the lake, and say so if replies wait in the journal."""
    from lakeinterp.chat.store import n_waiting, own_folder

    lake = common.open(config)
    if n := n_waiting(lake, own_folder(config.chat)):
        note = f"{n:,} more are in the journal: `lakeinterp replies move` brings them"
        console(stderr=True).print(note, markup=False)
    return lake


def _write(query: str, common: Common, **values: Any) -> None:
    """Print a query's rows as a table."""
    from lakeinterp.lake import queries
    from lakeinterp.report.output import write_result

    with _open(common.load(), common).connect() as con:
        relation = con.sql(queries.load(query).sql, params=values)
        write_result(relation, format="table", output=None, console=console())


def _rows(lake: Lake, **values: Any) -> Iterator[dict[str, Any]]:
    """Yield whole rows of `replies` with their JSON read."""
    from lakeinterp.lake import queries

    with lake.connect() as con:
        for batch in queries.load("replies/kept").batches(con, 4096, **values):
            for row in batch.to_pylist():
                for name in ("request", "logprobs"):
                    row[name] = None if row[name] is None else json.loads(row[name])
                yield row | {"created_at": row["created_at"].isoformat()}


def _told(row: dict[str, Any]) -> Iterator[str]:
    """Yield a reply as lines that are safe for a terminal."""
    for name, value in row.items():
        if name not in ("request", "text", "logprobs") and value not in (None, ""):
            yield f"{name:18}{_safe(str(value))}"
    asked = dict(row["request"])
    messages = asked.pop("messages", [])
    yield f"{'request':18}{_safe(json.dumps(asked))}"
    said = [(message["role"], message["content"]) for message in messages]
    if row["text"] is not None:
        said.append(("reply", row["text"]))
    for who, text in said:
        yield f"\n--- {who}"
        yield from (_safe(line) for line in text.split("\n"))


def _safe(text: str) -> str:
    """Return a line without what would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\u{ord(c):04x}" for c in text)


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """Give a file that takes the output's place when the block ends well."""
    part = output.with_name(f".{output.name}.part")
    try:
        yield part
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def _write_lines(lake: Lake, output: Path, values: dict[str, str]) -> int:
    n_rows = 0
    with _whole(output) as part, part.open("w", encoding="utf-8") as sink:
        for row in _rows(lake, **values):
            sink.write(json.dumps(row, ensure_ascii=False) + "\n")
            n_rows += 1
    return n_rows


def _write_parquet(lake: Lake, output: Path, values: dict[str, str]) -> int:
    from lakeinterp.lake import queries
    from lakeinterp.report.output import write_result

    with lake.connect() as con:
        relation = con.sql(queries.load("replies/kept").sql, params=values)
        return write_result(relation, format="parquet", output=output, console=console())
