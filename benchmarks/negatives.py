"""How fast nearest latents are counted and hard negatives are drawn on a large lake.

    python benchmarks/negatives.py [--rows 8M | 60M] [--units 8] [--folder F]

Makes the lake once (`generated_lake.py`; kept in the folder) and then measures, each step in a
process of its own over hard links of the lake:

co-occurrence   the ten nearest of every latent, counted over all tokens
random          the draws of the first units: 40 and 50 activating, 40 and 50 random windows
same token      the same with 10 same-token windows
neighbour       the same with 10 neighbour windows; the first unit reads where all latents fire

Memory is the peak of the resident set (VmHWM) of the step's process.
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
from typing import Any

CAPTURE, HOOKPOINT = "generated", "layers.0"
DRAWS = {
    "random": {},
    "same token": {"n_same_token": 10},
    "neighbour": {"n_neighbour": 10},
}


def main() -> None:
    """Make the lake, run the steps and print the table; or run one step of it."""
    arguments = parsed()
    if arguments.step:
        steps = {"co-occurrence": count}
        print(json.dumps(steps.get(arguments.step, draw)(arguments)))
        return
    from sampling import clone

    folder = Path(arguments.folder or f"{tempfile.gettempdir()}/lakeinterp-{arguments.rows}")
    maker = Path(__file__).with_name("generated_lake.py")
    command = [sys.executable, str(maker), str(folder / "lake"), "--rows", arguments.rows]
    subprocess.run(command, check=True)
    work = clone(folder / "lake", folder / "work-negatives")
    print(f"{'step':16}{'latents':>9}{'seconds':>9}{'latents/s':>11}{'MiB':>7}")
    for name in ("co-occurrence", *DRAWS):
        own = [sys.executable, __file__, "--step", name, "--folder", str(work)]
        own += ["--units", str(arguments.units)]
        done = subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        rate = found["latents"] / found["seconds"]
        print(
            f"{name:16}{found['latents']:9,}{found['seconds']:9.1f}{rate:11,.0f}{found['mib']:7,.0f}"
        )
    shutil.rmtree(work)


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="8M", help="activations to generate, as 8M or 60M")
    parser.add_argument("--units", type=int, default=8, help="units to draw from")
    parser.add_argument("--folder", help="where the lake is kept; default in the temporary folder")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    return parser.parse_args()


def count(arguments: argparse.Namespace) -> dict[str, Any]:
    """Count the nearest latents of every latent."""
    from sampling import peak_mib

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake import Lake
    from lakeinterp.sampling.neighbours import cooccurrence

    lake = Lake(arguments.folder)
    start = time.perf_counter()
    cooccurrence(lake, CAPTURE, HOOKPOINT, SamplingConfig())
    seconds = time.perf_counter() - start
    return {"latents": lake.rows("hookpoints")[0]["n_latents"], "seconds": seconds,
            "mib": peak_mib()}  # fmt: skip


def draw(arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw the examples of some units, without writing them."""
    from sampling import peak_mib

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
    seconds = time.perf_counter() - start
    return {"latents": n_latents, "seconds": seconds, "mib": peak_mib()}


if __name__ == "__main__":
    main()
