"""How fast a delphi cache is read and written, and in how much memory.

    python benchmarks/bridges.py [--rows 16000000] [--splits 4]

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
from typing import TYPE_CHECKING

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
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
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


if __name__ == "__main__":
    main()
