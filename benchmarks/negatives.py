"""How fast nearest latents are counted and hard negatives are drawn on a large lake.

    python benchmarks/negatives.py [--rows 8M | 60M] [--units 8] [--windows 200k] [--folder F]

Makes the lake once (`generated_lake.py`; kept in the folder) and then measures, each step in a
process of its own over hard links of the lake:

co-occurrence   the ten nearest of every latent, counted over all tokens
random          the draws of the first units: 40 and 50 activating, 40 and 50 random windows
same token      the same with 10 same-token windows
neighbour       the same with 10 neighbour windows; the first unit reads where all latents fire
index           of `--windows` random vectors as wide as those of all-MiniLM-L6-v2 (384), what
                similar text adds to the time that its model takes
search          of that index: the 64 nearest to 5 windows of each of 256 latents

Memory is the peak of the resident set (VmHWM) of the step's process; of co-occurrence the part of
it counts that shows a file and that the kernel may take back. CPU seconds are those of all threads.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CAPTURE, HOOKPOINT = "generated", "layers.0"
DRAWS = {
    "random": {},
    "same token": {"n_same_token": 10},
    "neighbour": {"n_neighbour": 10},
}
WIDTH = 384


def main() -> None:
    """Make the lake, run the steps and print the table; or run one step of it."""
    arguments = parsed()
    if arguments.step:
        steps = {"co-occurrence": count, "index": build, "search": search}
        print(json.dumps(steps.get(arguments.step, draw)(arguments)))
        return
    from sampling import clone

    folder = Path(arguments.folder or f"{tempfile.gettempdir()}/lakeinterp-{arguments.rows}")
    maker = Path(__file__).with_name("generated_lake.py")
    command = [sys.executable, str(maker), str(folder / "lake"), "--rows", arguments.rows]
    subprocess.run(command, check=True)
    work = clone(folder / "lake", folder / "work-negatives")
    print(f"{'step':16}{'number':>10}{'seconds':>9}{'CPU s':>8}{'a second':>10}{'MiB':>7}")
    for name in ("co-occurrence", *DRAWS, "index", "search"):
        own = [sys.executable, __file__, "--step", name, "--folder", str(work)]
        own += ["--units", str(arguments.units), "--windows", str(arguments.windows)]
        done = subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        n, seconds = found["number"], found["seconds"]
        print(
            f"{name:16}{n:10,}{seconds:9.1f}{found['cpu']:8.1f}{n / seconds:10,.0f}"
            f"{found['mib']:7,.0f}",
            flush=True,
        )
    shutil.rmtree(work)


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    from generated_lake import count as number

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="8M", help="activations to generate, as 8M or 60M")
    parser.add_argument("--units", type=int, default=8, help="units to draw from")
    parser.add_argument("--windows", type=number, default="200k", help="texts of the index, 1M")
    parser.add_argument("--folder", help="where the lake is kept; default in the temporary folder")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(number: int, start: float) -> dict[str, Any]:
    """Return what a step did in the time since its start, and what it took."""
    from sampling import peak_mib

    seconds = time.perf_counter() - start
    return {"number": number, "seconds": seconds, "cpu": time.process_time(), "mib": peak_mib()}


def count(arguments: argparse.Namespace) -> dict[str, Any]:
    """Count the nearest latents of every latent."""
    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake import Lake
    from lakeinterp.sampling.neighbours import cooccurrence

    lake = Lake(arguments.folder)
    start = time.perf_counter()
    cooccurrence(lake, CAPTURE, HOOKPOINT, SamplingConfig())
    return measured(lake.rows("hookpoints")[0]["n_latents"], start)


def draw(arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw the examples of some units, without writing them."""
    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake import Lake
    from lakeinterp.lake.units import latents_of, units
    from lakeinterp.sampling.examples import draw as draw_examples
    from lakeinterp.sampling.session import open_session

    lake, config = Lake(arguments.folder), SamplingConfig(**DRAWS[arguments.step])
    start = time.perf_counter()
    n_latents = 0
    with open_session(lake, CAPTURE, config, hookpoint=HOOKPOINT) as session:
        for unit in units(lake, CAPTURE)[: arguments.units]:
            rows = draw_examples(session, unit, list(latents_of(lake, unit)))
            n_latents += len(rows["latent"].unique())
    return measured(n_latents, start)


class Noise:
    """Vectors in no time: what is left is what the index itself takes."""

    identity = "noise"

    def __init__(self) -> None:
        self._drawn = np.random.default_rng(0)

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return random vectors of length one."""
        found = self._drawn.standard_normal((len(texts), WIDTH), dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def texts(first: int, stop: int) -> Iterator[list[str]]:
    """Yield as many texts as are asked for, 1,024 at a time."""
    for start in range(first, stop, 1024):
        yield [""] * (min(start + 1024, stop) - start)


def build(arguments: argparse.Namespace) -> dict[str, Any]:
    """Build the index over random vectors."""
    from lakeinterp.sampling.embeddings import Index

    start = time.perf_counter()
    Index(Path(arguments.folder) / "index", arguments.windows).build(texts, Noise())
    return measured(arguments.windows, start)


def search(arguments: argparse.Namespace) -> dict[str, Any]:
    """Search it once, as for one unit of 256 latents."""
    from lakeinterp.sampling.embeddings import Index

    index = Index(Path(arguments.folder) / "index", arguments.windows)
    start = time.perf_counter()
    numbers = np.random.default_rng(1).integers(0, arguments.windows, 5 * 256)
    index.search(index.vectors(numbers), 64)
    return measured(256, start)


if __name__ == "__main__":
    main()
