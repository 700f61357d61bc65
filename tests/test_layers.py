"""Rooms import only what the table allows, and light commands load no heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lakeinterp"
BASE = {"errors", "terms", "fingerprint", "config", "registry", "prompts", "rules", "work", "hub"}
BASE |= {"embedder", "logs", "telemetry"}
MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    "__init__": BASE | {"lake", "opened"},
    "opened": BASE | {"lake", "report"},
    "__main__": {"cli"},
    "cli": {"errors", "registry", "commands", "logs"},
    "commands": BASE
    | {"lake", "corpus", "coders", "capture", "sampling", "chat", "explain", "score", "report"}
    | {"demo", "pipeline", "steps", "bridges", "web", "rescore"},
    "pipeline": BASE
    | {"lake", "corpus", "coders", "capture", "sampling", "chat", "explain", "score", "report"}
    | {"workers", "subject"},
    "rescore": BASE | {"lake", "capture", "sampling", "chat", "explain", "score", "pipeline"},
    "workers": BASE | {"lake", "chat", "explain", "score"},
    "steps": BASE | {"lake", "capture", "sampling", "report", "subject"},
    "lake": BASE,
    "corpus": BASE | {"lake", "demo"},
    "coders": BASE,
    "capture": BASE | {"lake", "corpus", "coders"},
    "sampling": BASE | {"lake"},
    "chat": BASE | {"lake"},
    "subject": BASE | {"lake", "corpus", "coders", "capture"},
    "explain": BASE | {"lake", "chat", "subject", "score"},
    "score": BASE | {"lake", "chat", "subject", "explain"},
    "report": BASE | {"lake"},
    "web": BASE | {"lake", "report"},
    "bridges": BASE | {"lake", "corpus", "sampling", "chat", "score", "subject"},
    "demo": BASE,
}
HEAVY = {"torch", "transformers", "nnsight", "datasets", "litellm", "prefect"}


def rooms() -> list[str]:
    return sorted(
        p.stem if p.suffix == ".py" else p.name
        for p in PACKAGE.iterdir()
        if p.suffix == ".py" or (p.is_dir() and (p / "__init__.py").is_file())
    )


def files_of(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]


def rooms_imported_by(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= _rooms(node.module, [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                found |= _rooms(alias.name, [])
    return found


def _rooms(module: str, names: list[str]) -> set[str]:
    parts = module.split(".")
    if parts[0] != "lakeinterp":
        return set()
    return {parts[1]} if len(parts) > 1 else {n for n in names if n in rooms()}


@pytest.mark.parametrize("room", rooms())
def test_room_imports_only_what_it_may(room):
    assert room in MAY_IMPORT, f"a new room: say in MAY_IMPORT what {room} may import"
    used = {name for path in files_of(room) for name in rooms_imported_by(path)} - {room}
    assert used <= MAY_IMPORT[room]


def test_the_table_names_only_rooms_that_exist():
    assert set(MAY_IMPORT) == set(rooms())


@pytest.mark.parametrize(
    "module",
    [
        "lakeinterp",
        "lakeinterp.cli",
        "lakeinterp.config",
        "lakeinterp.lake",
        "lakeinterp.report",
        "lakeinterp.sampling",
        "lakeinterp.chat",
        "lakeinterp.explain",
        "lakeinterp.score",
        "lakeinterp.commands.sql",
        "lakeinterp.commands.report",
        "lakeinterp.commands.status",
    ],
)
def test_import_loads_no_heavy_library(module):
    code = f"import sys, {module}; print(*{HEAVY} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


def test_help_loads_neither_a_heavy_library_nor_the_lake():
    heavy = HEAVY | {"duckdb", "pyarrow", "polars", "deltalake"}
    code = (
        "import sys; from lakeinterp.cli import run; run(['--help']); "
        f"print('LOADED', *{heavy} & sys.modules.keys())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1].split() == ["LOADED"]


def test_help_costs_little_processor_time():
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "lakeinterp", "--help"]
    fastest = min(_seconds(command) for _ in range(3))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3
    assert min(spent, fastest) < 0.6


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start
