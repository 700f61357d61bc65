"""How fast bridges read and write, in how much memory, and whether real files of others fit.

    python benchmarks/bridges.py [--rows 16000000] [--splits 4]
    python benchmarks/bridges.py --lake LAKE                    # every export of a lake
    python benchmarks/bridges.py --real FOLDER                  # every import of others' files

Makes a cache of random rows from a seed, imports it into a lake and exports it again, each in a
process of its own, for a quarter of the rows and for all of them: the peak of resident memory above
what is resident before must not follow the number of rows, only the size of a piece and a split.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from lakeinterp import bridges
from lakeinterp.bridges.base import Export, Import
from lakeinterp.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT, LATENTS, L0 = 256, 16_384, 64


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=16_000_000)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--lake", help="a lake with explanations: exports it in every format")
    parser.add_argument("--real", type=Path, help="folder with delphi/results and replies/*")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.lake:
        exports(given.lake)
        return
    if given.real:
        real(given.real)
        return
    if given.work:
        work(given.work[0], Path(given.work[1]), given.splits)
        return
    print(f"{'rows':>12} {'step':8} {'seconds':>8} {'rows/s':>12} {'memory above start':>20}")
    for n_rows in (given.rows // 4, given.rows):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "in", n_rows, given.splits)
            for step in ("import", "export"):
                command = [sys.executable, __file__, "--splits", str(given.splits)]
                done = subprocess.run(
                    [*command, "--work", step, folder], check=True, capture_output=True
                )
                seconds, peak = json.loads(done.stdout)
                print(f"{n_rows:>12,} {step:8} {seconds:>8.1f} {n_rows / seconds:>12,.0f} "
                      f"{peak / 2**20:>16,.0f} MiB")  # fmt: skip


def make(folder: Path, n_rows: int, n_splits: int) -> None:
    """Write a cache whose tokens each have `L0` of the latents."""
    dice = np.random.default_rng(0)
    n_sequences = n_rows // (L0 * CONTEXT)
    tokens = dice.integers(0, 1000, size=(n_sequences, CONTEXT))
    path = folder / "latents" / "layers.0"
    path.mkdir(parents=True)
    width, per_split = LATENTS // n_splits, L0 // n_splits
    for split in range(n_splits):
        first = np.arange(per_split) * (width // per_split)
        shape = (n_sequences * CONTEXT, per_split)
        latent = first + dice.integers(0, width // per_split, size=shape, dtype=np.uint16)
        token = np.repeat(np.arange(len(latent)), per_split)
        where = np.stack([*np.divmod(token, CONTEXT), latent.ravel()], axis=1).astype(np.uint16)
        values = dice.random(len(where), np.float32).astype(np.float16) + np.float16(0.01)
        held = {"locations": where, "activations": values, "tokens": tokens}
        save_file(held, path / f"{split * width}_{(split + 1) * width - 1}.safetensors")
    (path / "config.json").write_text("{}")


def work(step: str, folder: Path, n_splits: int) -> None:
    """Import or export, and print the seconds and the bytes of memory it took."""
    lake = Lake(f"{folder}/lake")
    lake.tables()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if step == "import":
        options = Import(path=folder / "in", without_text=True)
        bridges.importer("delphi")(lake, options)
    else:
        bridges.exporter("delphi")(lake, Export(path=folder / "out", n_splits=n_splits))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([seconds, peak * 1024]))


def exports(root: str) -> None:
    """Export a lake in every format and print the processor time and what was written."""
    lake = Lake(root)
    for name in bridges.EXPORTS:
        hookpoints = (lake.rows("hookpoints")[0]["hookpoint"],) if name in _BY_LAYER else ()
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            given = Export(path=Path(folder) / "out", hookpoints=hookpoints, n_logits=0)
            done = bridges.exporter(name)(lake, given)
            seconds = time.process_time() - start
            size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
        said = done.said[0].partition(" to /")[0] if done.said else f"{done.n_rows:,} activations"
        print(f"{name:20} {seconds:6.1f} s {size / 1e6:8.1f} MB  {said}")


_BY_LAYER = ("circuit-tracer", "openai-neurons")
REAL = {
    "delphi-results": "delphi/results",
    "saedashboard": "replies/saedashboard-gpt2-res-jb-batch-1.json",
    "neuronpedia-explanations": "replies/axbench-concept500-prod_2b_l10_v1.jsonl",
}
"""Files of others, below the folder that is given."""


def real(root: Path) -> None:
    """Import real files of others and print what came in; results of delphi have to come back."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in REAL.items():
            lake = Lake(f"{folder}/{name}")
            done = bridges.importer(name)(lake, Import(path=root / path))
            again = bridges.importer(name)(lake, Import(path=root / path))
            print(f"{name}: {'; '.join(done.said)}; again: {again.said[0].partition(':')[0]}")
        lake = Lake(f"{folder}/delphi-results")
        out = Path(folder) / "out"
        bridges.exporter("delphi-results")(lake, Export(path=out))
        theirs = root / REAL["delphi-results"]
        paths = sorted(p.relative_to(theirs) for p in theirs.rglob("*.txt"))
        same = sum(_json(theirs / path) == _json(out / path) for path in paths)
        print(f"delphi-results: {same} of {len(paths)} files come back as they were")
        query = "SELECT hookpoint, latent, value, n, n_failed, status FROM scores "
        for row in lake.sql(f"{query} WHERE metric = 'balanced_accuracy' ORDER BY ALL").fetchall():
            print("  balanced accuracy", *row)
    puzzles = _json(root / "replies/openai-neuron-puzzles.json")
    records = [
        [token if isinstance(token, list) else [token, 0] for token in sentence]
        for puzzle in puzzles.values()
        for sentence in puzzle["sentences"]
    ]
    fits = sum(isinstance(text, str) and value >= 0 for one in records for text, value in one)
    print(f"openai-neurons: {len(puzzles)} puzzles of {len(records)} records, {fits} tokens with "
          "an activation each, as in the records written here")  # fmt: skip


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
