"""The pages of the reference, written from the code that they describe.

    python docs/reference.py [FOLDER]

`make docs` does so by itself; nothing of it is kept in the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lakeinterp import cli, prompts
from lakeinterp.config import Section, load
from lakeinterp.lake import queries
from lakeinterp.lake.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel

_FOLDERS = {
    "report/cookbook": "The cook-book: questions to ask of any lake",
    "report": "What reports and the page show",
    "web": "What the served page asks",
    "audit": "Audits of examples",
    "stats": "Statistics of latents",
    "sampling": "Windows and draws",
    "strata": "Silent windows",
    "neighbours": "Neighbours",
    "explain": "Explaining",
    "score": "Metrics",
    "replies": "Replies",
    "corpus": "Corpus",
    "bridges": "Bridges",
    "macros": "Macros that every connection has",
}
"""Titles of the folders of `sql/`, in the order of their pages."""


def write(folder: Path) -> None:
    """Write every page; pages that did not change are left as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in PAGES.items():
        text = "\n".join(lines()) + "\n"
        page = folder / f"{name}.md"
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def commands() -> Iterator[str]:
    """Yield the page of the command line."""
    yield "# Commands\n"
    yield "Exit codes: 0 done; 2 something for you to mend, in one line; 3 finished with failures,"
    yield "which are counted; 130 interrupted.\n"
    app = cli.make_app()
    yield app.generate_docs(output_format="markdown", heading_level=2)


def settings() -> Iterator[str]:
    """Yield the page of the settings, a table a section."""
    yield "# Settings\n"
    yield "Set in a TOML file (`--config`), by `--set section.name=value`, or by the options of a"
    yield "command; later ones win. `lakeinterp config` prints them with the values they have.\n"
    yield from _section(load(), "")


def _section(section: BaseModel, path: str) -> Iterator[str]:
    from lakeinterp.commands.config import toml

    fields = type(section).model_fields
    nested = [name for name in fields if isinstance(getattr(section, name), Section)]
    yield f"## {path.rstrip('.') or 'Everything'}\n"
    if path and (about := (type(section).__doc__ or "").strip().splitlines()):
        yield f"{about[0]}\n"
    yield "| setting | default | meaning |"
    yield "|---|---|---|"
    for name, field in fields.items():
        if name not in nested:
            value = getattr(section, name)
            shown = "" if value is None else f"`{toml(value)}`"
            yield f"| `{path}{name}` | {_cell(shown)} | {_cell(field.description or '')} |"
    yield ""
    for name in nested:
        yield from _section(getattr(section, name), f"{path}{name}.")


def tables() -> Iterator[str]:
    """Yield the page of the lake's tables."""
    yield "# Tables\n"
    yield "A lake is a folder or an object-store URL of [Delta Lake](https://delta.io) tables:"
    yield "plain Parquet files and a log of which of them count.\n"
    for table in TABLES.values():
        yield f"## {table.name}\n"
        yield f"{table.about}\n"
        partition = f" Partitioned by `{'`, `'.join(table.partition)}`." if table.partition else ""
        yield f"One row for each `{'`, `'.join(table.key)}`.{partition}\n"
        yield "| column | type |"
        yield "|---|---|"
        for column in table.schema:
            yield f"| `{column.name}` | `{_cell(str(column.type))}` |"
        yield ""


def sql() -> Iterator[str]:
    """Yield the page of the SQL files."""
    yield "# SQL files\n"
    yield "Every question that lakeinterp asks of a lake is one statement in one file of `sql/`."
    yield "Its head says what it does, its parameters, its columns and of what it has one row.\n"
    left = queries.names()
    for folder, title in _FOLDERS.items():
        mine = [name for name in left if name.startswith(f"{folder}/")]
        left = [name for name in left if name not in mine]
        if mine:
            yield f"## {title}\n"
            for name in mine:
                yield from _statement(name)
    if left:
        yield "## Others\n"
        for name in left:
            yield from _statement(name)


def _statement(name: str) -> Iterator[str]:
    query = queries.load(name)
    lines = query.sql.splitlines()
    body = lines[next(i for i, line in enumerate(lines) if not line.startswith("--")) :]
    yield f"### {name}\n"
    yield f"{_plain(query.about)}\n"
    if query.params:
        yield f"Parameters: {_named(query.params)}.\n"
    if query.columns:
        yield f"Columns: {_named(query.columns)}.\n"
    if query.grain:
        yield f"One row for each `{'`, `'.join(query.grain)}`.\n"
    yield "\n".join(["```sql", *body, "```", ""])


def _named(types: dict[str, str]) -> str:
    return ", ".join(f"`{name}` {kind}" for name, kind in types.items())


def prompt_pages() -> Iterator[str]:
    """Yield the page of the prompts."""
    yield "# Prompts\n"
    yield "Words that language models are told, with slots; `lakeinterp prompts --copy DIR` copies"
    yield "them to be edited, `--prompts DIR` uses yours, and rows carry the digest.\n"
    for name in prompts.shipped():
        prompt = prompts.load(name)
        slots = ", ".join(f"`${slot}`" for slot in sorted(prompt.slots)) or "none"
        yield f"## {name}\n"
        yield f"Digest `{prompt.digest}`; slots: {slots}.\n"
        yield "\n".join(["````text", prompt.text.rstrip("\n"), "````", ""])


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return prose in which nothing but code in backticks is markup."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        for mark in "\\*_<>[]":
            parts[i] = parts[i].replace(mark, f"\\{mark}")
    return "`".join(parts)


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "commands": commands,
    "settings": settings,
    "tables": tables,
    "sql": sql,
    "prompts": prompt_pages,
}
"""Pages by the names of their files."""

if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "reference")
