"""What a lake of a hundred thousand files costs to open, to prune, to query and to write to.

    [SCALE_BUCKETS=64] python benchmarks/scale.py [--files 100000] [--writers 4] [--folder DIR]

Files of `activations` are entries of the log alone, as large and with such statistics as capture
writes, committed by the code that capture commits with: a shard of 16 hookpoints of 64 buckets is
one commit of 1,024 files; `SCALE_BUCKETS` sets another number. The files of one bucket are real, so
that a latent can be read. Measured are, as the table grows: a commit; and at its full size, each in
a process of its own: opening, listing one unit's files, reading one latent, before and after that
unit's files are merged; the size of the log; and how many commits several writers make in one time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from lakeinterp.lake import Lake, commits, shards
from lakeinterp.lake.activations import write_activations
from lakeinterp.lake.schema import TABLES
from lakeinterp.lake.store import Written
from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Callable

CAPTURE, N_HOOKPOINTS = "big", 16
N_BUCKETS = int(os.environ.get("SCALE_BUCKETS", "64"))
"""Of a hookpoint; the environment reaches the processes that are started here too."""
WIDTH = 65_536 // N_BUCKETS
SHARD_SEQUENCES, CONTEXT = 16_384, 256
ROWS, N_BYTES = 4_000_000, 13_000_000
"""Of an entry that stands for a file of a shard of 4 M tokens with 64 latents at a token."""
REAL_ROWS = 2_000


def main() -> None:
    """Make the lake and print what everything costs."""
    arguments = parsed()
    if arguments.child:
        child(arguments)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(arguments.folder or scratch)
        n_shards = -(-arguments.files // (N_HOOKPOINTS * N_BUCKETS))
        print(f"{n_shards} shards, {N_HOOKPOINTS} hookpoints, {N_BUCKETS} buckets")
        grow(folder, n_shards)
        log = list((Path(folder) / "activations" / "_delta_log").iterdir())
        n_bytes = sum(file.stat().st_size for file in log)
        print(f"log: {len(log)} files, {n_bytes / 1e6:.1f} MB")
        for what in ("nothing", "open", "prune", "latent", "sql"):
            alone(folder, what)
        print("one unit's files merged")
        began = time.perf_counter()
        merge(folder)
        print(f"  merging: {time.perf_counter() - began:.2f} s")
        alone(folder, "latent")
        for n in sorted({1, arguments.writers}):
            together(folder, n_shards, n)


def parsed() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="keep the lake here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def describe(lake: Lake) -> None:
    """Write the rows that reading a latent needs besides activations."""
    row = dict.fromkeys(TABLES["captures"].columns)
    row |= {"capture": CAPTURE, "created_at": now(), "context_tokens": CONTEXT}
    lake.upsert("captures", [row], scope={"capture": CAPTURE})


def files_of(lake: Lake, shard: int, seed: int) -> list[Written]:
    """Return the files of a shard: entries, and a real file for one bucket of one hookpoint."""
    rng = np.random.default_rng([seed, shard])
    first = shard * SHARD_SEQUENCES * CONTEXT
    found = [
        Written(
            path=f"capture={CAPTURE}/hookpoint=layers.{h}/bucket={b}/{shard:06d}.parquet",
            partition={"capture": CAPTURE, "hookpoint": f"layers.{h}", "bucket": str(b)},
            n_rows=ROWS,
            n_bytes=N_BYTES + int(rng.integers(100_000)),
            minimum={"latent": b * WIDTH, "token": first},
            maximum={"latent": (b + 1) * WIDTH - 1, "token": first + SHARD_SEQUENCES * CONTEXT},
        )
        for h in range(N_HOOKPOINTS)
        for b in range(N_BUCKETS)
        if (h, b) != (0, 0)
    ]
    latents = np.sort(rng.integers(0, WIDTH, REAL_ROWS).astype(np.int32))
    tokens = first + np.sort(rng.integers(0, SHARD_SEQUENCES * CONTEXT, REAL_ROWS))
    values = rng.random(REAL_ROWS, dtype=np.float32)
    return found + write_activations(
        lake.store, capture=CAPTURE, hookpoint="layers.0", latents_per_bucket=WIDTH,
        latents=latents, tokens=tokens, values=values, name=f"{shard:06d}",
    )  # fmt: skip


def put(lake: Lake, shard: int, files: list[Written]) -> None:
    """Commit a shard as capture does."""
    todo = shards.Todo(shard, shard * SHARD_SEQUENCES, (shard + 1) * SHARD_SEQUENCES, 0)
    done = shards.publish(lake, files, todo, SHARD_SEQUENCES, capture=CAPTURE, epoch=0)
    if not done:
        raise SystemExit(f"shard {shard} was committed before")


def grow(folder: str, n_shards: int) -> None:
    """Commit shard after shard; print what a commit takes as the table grows."""
    lake = Lake(folder)
    describe(lake)
    spans: list[float] = []
    for shard in range(n_shards):
        files = files_of(lake, shard, 1)
        began = time.perf_counter()
        put(lake, shard, files)
        spans.append(time.perf_counter() - began)
        if (shard + 1) % max(1, n_shards // 5) == 0:
            recent = spans[-max(1, n_shards // 5) :]
            n_files = (shard + 1) * N_HOOKPOINTS * N_BUCKETS
            middle, slowest = 1e3 * float(np.median(recent)), 1e3 * max(recent)
            print(f"{n_files:>8,} files: a commit {middle:6.0f} ms, the slowest {slowest:6.0f} ms")


def alone(folder: str, what: str) -> None:
    """Run one measurement in a new process and print it."""
    command = [sys.executable, __file__, "--folder", folder, "--child", what]
    runs = [json.loads(subprocess.check_output(command)) for _ in range(3)]
    best = min(runs, key=lambda run: run["wall"])
    print(
        f"  {what:<8} {1e3 * best['wall']:6.0f} ms, CPU {1e3 * best['cpu']:6.0f} ms, "
        f"{best['mib']:5.0f} MiB  {best['found']}"
    )


def child(arguments: argparse.Namespace) -> None:
    """Measure one thing, and print it as JSON."""
    lake = Lake(str(arguments.folder))
    where = f"capture = '{CAPTURE}' AND hookpoint = 'layers.0' AND bucket = 0"
    query = "SELECT count(*), sum(value) FROM activations WHERE latent = 7"

    def latent() -> str:
        with lake.connect(activations=where) as con:
            return str(con.execute(query).fetchone())

    def sql() -> str:
        counted = "SELECT count(*) FROM captures"
        return str(lake.sql(counted).fetchall())

    todo: dict[str, Callable[[], object]] = {
        "nothing": lambda: "",
        "open": lambda: lake.table("activations") and "",
        "prune": lambda: f"{len(lake.files('activations', where))} files",
        "latent": latent,
        "sql": sql,
    }
    import deltalake
    import duckdb

    del deltalake, duckdb  # imported before the clock starts
    began, cpu = time.perf_counter(), time.process_time()
    found = todo[arguments.child]()
    result = {
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "found": found,
    }
    print(json.dumps(result))


def merge(folder: str) -> None:
    """Put one file in the place of one unit's many, as `lakeinterp compact` does."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    lake = Lake(folder)
    delta = lake.create("activations")
    old = commits.live_files(delta, capture=CAPTURE, hookpoint="layers.0", bucket=0)
    rows = pq.read_table([f"{folder}/activations/{file.path}" for file in old])
    order = pc.sort_indices(rows, [("latent", "ascending"), ("token", "ascending")])
    rows = rows.take(order)
    new = write_activations(
        lake.store, capture=CAPTURE, hookpoint="layers.0", latents_per_bucket=WIDTH,
        latents=rows["latent"].to_numpy(), tokens=rows["token"].to_numpy(),
        values=rows["value"].to_numpy(), name="merged",
    )  # fmt: skip
    if not commits.swap(delta, "activations", old=old, new=new, data_change=False):
        raise SystemExit("a file was gone")


def together(folder: str, n_shards: int, n_writers: int, n_each: int = 6) -> None:
    """Let several processes commit shards at one time and print the rate."""
    start = n_shards + 100 * n_writers
    context = multiprocessing.get_context("spawn")
    ready, go, told = context.Barrier(n_writers + 1), context.Event(), context.SimpleQueue()
    crew = [
        context.Process(target=write, args=(folder, start + i * n_each, n_each, ready, go, told))
        for i in range(n_writers)
    ]
    for one in crew:
        one.start()
    ready.wait()
    began = time.perf_counter()
    go.set()
    for one in crew:
        one.join()
        if one.exitcode:
            raise SystemExit(f"a writer ended with {one.exitcode}")
    took = time.perf_counter() - began
    n, said = n_writers * n_each, [told.get() for _ in crew]
    cpu, n_attempts = sum(s[0] for s in said), sum(s[1] for s in said)
    print(
        f"{n_writers} writers: {n} commits in {took:.1f} s, {n / took:.2f} a second; a commit "
        f"{1e3 * cpu / n:.0f} ms of CPU, {n_attempts / n:.2f} attempts"
    )


def write(folder: str, first: int, n: int, ready: Any, go: Any, told: Any) -> None:
    """Commit some shards; the files are there before the clock starts."""
    n_attempts = 0
    commit = commits.commit

    def counted(*given: Any) -> None:
        nonlocal n_attempts
        n_attempts += 1
        commit(*given)

    commits.commit = counted
    lake = Lake(folder)
    found = [files_of(lake, shard, 2) for shard in range(first, first + n)]
    lake.create("activations")
    ready.wait()
    go.wait()
    cpu = time.process_time()
    for shard, files in enumerate(found, first):
        put(lake, shard, files)
    told.put((time.process_time() - cpu, n_attempts))


if __name__ == "__main__":
    main()
