"""What Prefect costs: the pipeline as plain functions and as flows, on the same 64 units.

    python benchmarks/flows.py [--tokens 65536] [--latents 3200] [--rounds 2] [--record FILE]
        [--workers 1] [--database postgresql+asyncpg://USER@127.0.0.1:5432/NAME]

The demo's model at two hookpoints of 32 buckets each, explained and judged by the pattern rule,
which asks nobody. Each run is a process of its own with a lake of its own, in turns; the flows run
against a Prefect server that is there before, one task at a time, as the plain functions do.
Start-up is a flow that does nothing against a process that imports what the plain functions do.
CPU is of the process and its children; that of the server is told beside it.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from lakeinterp.commands.demo import settings
from lakeinterp.config import Config, load
from lakeinterp.lake import Lake
from tests.flows.site import Site, family

KINDS = ("nothing plain", "nothing flow", "plain", "flow")
N_BUCKETS = 32
ROWS = (
    "SELECT * FROM examples ORDER BY ALL",
    "SELECT * FROM judgements ORDER BY ALL",
    "SELECT * EXCLUDE (run, created_at) FROM scores ORDER BY ALL",
)


class Took(NamedTuple):
    """Seconds of one run."""

    wall: float
    cpu: float
    server: float
    """CPU of the Prefect server meanwhile."""


def main() -> None:
    """Run every kind in turns and print or record the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--latents", type=int, default=3_200, help="a hookpoint")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--workers", type=int, default=1, help="tasks and units at one time")
    parser.add_argument("--database", help="of the Prefect server; a SQLite file if not given")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--lake", help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help="where the flows spend it, too")
    given = parser.parse_args()
    if given.child:
        child(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        lines = measured(given, Path(folder))
    if given.record:
        given.record.write_text("\n".join(lines) + "\n", encoding="utf-8")


def config_of(given: argparse.Namespace) -> Config:
    """Return the settings of a run."""
    return load(
        values={
            **settings(given.lake),
            "capture.n_buckets": N_BUCKETS,
            "capture.n_tokens": given.tokens,
            "capture.shard_tokens": given.tokens,
            "sampling.max_latents": given.latents,
            "flows.workers": given.workers,
            "chat.workers": given.workers,
        }
    )


def child(given: argparse.Namespace) -> None:
    """Do one run."""
    config = config_of(given)
    if given.child.endswith("plain"):
        from lakeinterp.commands.run import everything

        if given.child == "plain":
            everything(config, None)
        return
    from flows.pipeline import pipeline

    if given.child == "flow":
        with cProfile.Profile() as profile:
            profile.disable()
            if given.profile:
                profile.enable()
            pipeline(config)
        if given.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
        return
    from prefect import flow

    @flow
    def nothing() -> None:
        """Start and end."""

    nothing()


def measured(given: argparse.Namespace, folder: Path) -> list[str]:
    """Return the lines of the record."""
    found: dict[str, list[Took]] = {kind: [] for kind in KINDS}
    site = Site(folder, {"lake": "none"})
    if given.database:
        site.environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = given.database
    with site:
        for n in range(given.rounds):
            for kind in KINDS:
                found[kind].append(one(given, site, kind, folder / f"{kind}-{n}"))
                print(kind, found[kind][-1], flush=True)
        n_tasks = site.ask("POST", "/task_runs/count", {}) // given.rounds
    same = rows(folder / "plain-0") == rows(folder / "flow-0")
    least = {kind: Took(*map(min, zip(*runs, strict=True))) for kind, runs in found.items()}
    lines = [
        "# What Prefect costs, two CPU cores, 2026-11-24",
        "",
        f"    python benchmarks/flows.py --tokens {given.tokens} --latents {given.latents} "
        f"--rounds {given.rounds} --workers {given.workers}",
        "",
        f"64 units, {n_tasks} tasks, server on {'PostgreSQL' if given.database else 'SQLite'}; "
        f"Python {platform.python_version()}, the least of each kind; "
        f"rows of both lakes {'equal' if same else 'DIFFER'}.",
        "",
        "| | wall s | CPU s | CPU s of the server |",
        "|---|--:|--:|--:|",
        *(f"| {k} | {t.wall:.1f} | {t.cpu:.2f} | {t.server:.2f} |" for k, t in least.items()),
        "",
        *(overhead(least, n_tasks, name) for name in ("wall", "cpu")),
    ]
    print("\n".join(lines))
    return lines


def overhead(least: dict[str, Took], n_tasks: int, name: str) -> str:
    """Return the line on wall or CPU time."""
    idle, started, plain, flow = (getattr(least[kind], name) for kind in KINDS)
    start = started - idle
    more = flow - plain - start
    return (
        f"- {name}: start-up {start:.1f} s; then {more:.2f} s more than plain, "
        f"{100 * more / (plain - idle):.1f} %, {1e3 * more / n_tasks:.0f} ms a task"
    )


def one(given: argparse.Namespace, site: Site, kind: str, lake: Path) -> Took:
    """Do a run in a process of its own."""
    command = [sys.executable, __file__, "--child", kind, "--lake", str(lake)]
    command += ["--tokens", str(given.tokens), "--latents", str(given.latents)]
    command += ["--workers", str(given.workers)] + ["--profile"] * given.profile
    used, server = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_of(site)
    began = time.perf_counter()
    with (site.folder / f"{lake.name}.log").open("ab") as log:
        subprocess.run(command, env=site.environment, check=True, stdout=log, stderr=log)
    took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    if given.profile and kind == "flow":
        os.write(1, (site.folder / f"{lake.name}.log").read_bytes())
    return Took(took, cpu, cpu_of(site) - server)


def cpu_of(site: Site) -> float:
    """Return the CPU seconds of the server so far."""
    assert site.server is not None
    everyone = [psutil.Process(site.server.pid), *family(site.server)]
    return sum(sum(p.cpu_times()[:2]) for p in everyone)


def rows(lake: Path) -> list[list[tuple[object, ...]]]:
    """Return what explaining and scoring wrote."""
    with Lake(str(lake)).connect() as con:
        return [con.execute(query).fetchall() for query in ROWS]


if __name__ == "__main__":
    main()
