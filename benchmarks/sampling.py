"""How fast sampling is on a large lake, and against a loop over latents on the same rows.

    python benchmarks/sampling.py [--rows 60M | 8M | 250M] [--folder F] [--units N] [--statements]

Makes the lake once (`generated_lake.py`; kept in the folder) and then measures, each step in a
process of its own over hard links of the lake, so that every run starts from the same files:

statistics   the `latents` row of every latent
examples     for every latent with enough windows: 40 activating windows and 40 silent ones for the
             explainer, 50 and 50 for the scorers, audited and written
one latent   from `lakeinterp.open` in a new process (after the imports) to the example rows of one
             latent; the best of several processes, and the median
loop         for the latents of the first buckets, what the field's tools do: put the rows in the
             order of the latents, and for each find the windows that fire, lay their activations
             out, rank, make an example of each, draw 40 and 50 by quantile and 50 of the silent
             windows; PyTorch on the same rows, in memory

Memory is the peak of the resident set (VmHWM) of the step's process. CPU time is that of all its
threads, so that a latent's share of it can be compared where other programs take a part of the
cores; seconds cannot. `--units` works on the first few units alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from lakeinterp.sampling import Session
    from lakeinterp.sampling.crew import Crew
    from lakeinterp.terms import Unit

_SHARED = ("activations", "captures", "hookpoints", "sequences", "vocabulary")


def main() -> None:
    """Make the lake, run the steps and print the table; or run one step of it."""
    arguments = parsed()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments)))
        return
    from generated_lake import count

    folder = Path(arguments.folder or f"{tempfile.gettempdir()}/lakeinterp-{arguments.rows}")
    maker = Path(__file__).with_name("generated_lake.py")
    command = [sys.executable, str(maker), str(folder / "lake"), "--rows", arguments.rows]
    subprocess.run(command, check=True)
    work = clone(folder / "lake", folder / "work")
    steps = [name for name in ("statistics", "examples", "loop") if name in arguments.steps]
    found = {name: run_step(name, work, arguments) for name in steps}
    n_cold = arguments.cold if "one" in arguments.steps else 0
    cold = [run_step("one", work, arguments) for _ in range(n_cold)]
    shutil.rmtree(work)
    report(arguments, found, cold, count(arguments.rows))


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="60M", help="activations to generate, as 8M or 60M")
    parser.add_argument("--folder", help="where the lake is kept; default in the temporary folder")
    parser.add_argument("--loop-latents", type=int, default=200)
    parser.add_argument("--cold", type=int, default=7, help="new processes for one latent")
    parser.add_argument("--workers", type=int, help="units at the same time; default one a core")
    parser.add_argument("--units", type=int, help="only the first ones; default all")
    parser.add_argument("--steps", nargs="+", default=["statistics", "examples", "loop", "one"])
    parser.add_argument("--statements", action="store_true", help="seconds of each SQL statement")
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--lake", help=argparse.SUPPRESS)
    return parser.parse_args()


def clone(lake: Path, work: Path) -> Path:
    """Return a lake with the same capture and nothing sampled; files are hard links."""
    shutil.rmtree(work, ignore_errors=True)
    for table in _SHARED:
        shutil.copytree(lake / table, work / table, copy_function=os.link)
    return work


def run_step(name: str, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one step in a new process and return what it found."""
    command = [sys.executable, __file__, "--step", name, "--lake", str(work)]
    command += ["--loop-latents", str(arguments.loop_latents)]
    command += ["--workers", str(arguments.workers)] if arguments.workers else []
    command += ["--units", str(arguments.units)] if arguments.units else []
    command += ["--statements"] if arguments.statements else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# -- steps: each runs in its own process -------------------------------------------------------


def statistics_step(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the statistics of all latents."""
    from lakeinterp.sampling.statistics import statistics as count

    def work(crew: Crew, todo: list[Unit]) -> int:
        return sum(unit.n_latents for unit in count(crew, todo))

    return measured(arguments, work)


def examples_step(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the examples of all latents with enough windows."""
    from lakeinterp.sampling import examples_unit

    def work(crew: Crew, todo: list[Unit]) -> int:
        def draw(session: Session, unit: Unit) -> int:
            return examples_unit(crew.lake, unit, crew.config, session=session).n_drawn

        return sum(crew.each(draw, todo))

    return measured(arguments, work)


def measured(
    arguments: argparse.Namespace, work: Callable[[Crew, list[Unit]], int]
) -> dict[str, Any]:
    """Return seconds, latents, peak memory and, if asked for, the seconds of each statement."""
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake, queries, units
    from lakeinterp.sampling.crew import crew_for

    seconds = watch(queries.Query) if arguments.statements else {}
    lake, config = Lake(arguments.lake), Config().sampling
    config = config.model_copy(update={"workers": arguments.workers})
    start, cpu = time.perf_counter(), time.process_time()
    todo = units.units(lake, "generated")[: arguments.units]
    with crew_for(lake, "generated", config, hookpoint="layers.0") as crew:
        n_latents = work(crew, todo)
    spent = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    return {**spent, "latents": n_latents, "mib": peak_mib(), "statements": seconds}


def watch(query: Any) -> dict[str, float]:
    """Add up the seconds that each SQL statement takes, by name, in what is returned."""
    seconds: dict[str, float] = defaultdict(float)
    for name in ("run", "table"):
        plain = getattr(query, name)

        def timed(self: Any, con: Any, _plain: Any = plain, **values: Any) -> Any:
            start = time.perf_counter()
            found = _plain(self, con, **values)
            seconds[self.name] += time.perf_counter() - start
            return found

        setattr(query, name, timed)
    return seconds


def one_step(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read the examples of one latent, nothing read before."""
    import deltalake
    import duckdb
    import pyarrow.parquet

    import lakeinterp
    from lakeinterp.config import Config
    from lakeinterp.lake import units
    from lakeinterp.terms import Unit

    _ = deltalake, duckdb, pyarrow.parquet
    config = Config().sampling
    latent = os.getpid() * 7919 % (256 * (arguments.units or 64))
    start, cpu = time.perf_counter(), time.process_time()
    lake = lakeinterp.open(arguments.lake)
    row = lake.capture("generated")
    vocabulary = lake.vocabulary(row["tokenizer"])
    sample = units.sample_id(lake, "generated", config)
    unit = Unit(capture="generated", hookpoint="layers.0", bucket=latent // 256)
    found = list(units.examples(lake, unit, sample, vocabulary, latents=[latent]))
    spent = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    return {**spent, "examples": sum(len(e) for _, e in found), "mib": peak_mib()}


def loop_step(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the examples of some buckets' latents one by one.

    A bucket stands for a file of the field's caches, in the order of the tokens. Reading it and the
    corpus is not counted; putting it in the order of the latents is.
    """
    import torch

    from lakeinterp.lake import Lake

    lake, window = Lake(arguments.lake), 32
    with lake.connect() as con:
        tokens = con.sql("SELECT unnest(tokens) AS t FROM sequences ORDER BY sequence").fetchnumpy()
        text = torch.from_numpy(tokens["t"]).view(-1, window)
        query = "SELECT latent, token, value FROM activations WHERE bucket = $b ORDER BY token"
        seconds, cpu, n, bucket = 0.0, 0.0, 0, 0
        while n < arguments.loop_latents:
            found = con.execute(query, {"b": bucket}).fetchnumpy()
            rows = [torch.from_numpy(found[name]) for name in ("latent", "token", "value")]
            start, used = time.perf_counter(), time.process_time()
            n += loop_bucket(text, *rows)
            seconds += time.perf_counter() - start
            cpu += time.process_time() - used
            bucket += 1
    return {"seconds": seconds, "cpu": cpu, "latents": n, "mib": peak_mib()}


def loop_bucket(
    text: torch.Tensor, latent: torch.Tensor, token: torch.Tensor, value: torch.Tensor
) -> int:
    """Return how many latents of a bucket have windows enough to be drawn for."""
    import torch

    order = latent.argsort(stable=True)
    sizes = torch.unique_consecutive(latent[order], return_counts=True)[1].tolist()
    parts = zip(token[order].split(sizes), value[order].split(sizes), strict=True)
    return sum(loop_latent(text, *part) for part in parts)


def loop_latent(text: torch.Tensor, token: torch.Tensor, value: torch.Tensor) -> int:
    """Return 1 if a latent has windows enough to be drawn for, 0 if not.

    Every window that fires becomes an example, strongest first, before any is drawn. Windows are
    cut across documents, explainer and scorer draw from the same ones, negatives are drawn with
    replacement, and nothing is checked, turned into text or written: the least that such a loop
    does.
    """
    import torch

    window = text.shape[1]
    number, place, n_each = torch.unique_consecutive(
        token // window, return_inverse=True, return_counts=True
    )
    if len(number) < 20:
        return 0
    laid_out = torch.zeros(len(number), window)
    laid_out[place, token % window] = value
    order = torch.segment_reduce(value, "max", lengths=n_each).argsort(descending=True)
    every = list(zip(text[number[order]], laid_out[order], strict=True))
    drawn: list[tuple[list[int], list[float]]] = []
    for n in (40, 50):
        for q in range(10):
            group = every[q * len(every) // 10 : (q + 1) * len(every) // 10]
            chosen = random.sample(group, min(len(group), n // 10))
            drawn += [(shown.tolist(), values.tolist()) for shown, values in chosen]
    silent = torch.ones(len(text), dtype=torch.bool)
    silent[number] = False
    left = silent.nonzero().squeeze(1)
    if len(left):
        negatives = text[left[torch.randint(0, len(left), (50,))]]
        drawn += [(shown.tolist(), [0.0] * window) for shown in negatives]
    return 1


def peak_mib() -> float:
    """Return the peak of this process's resident set, MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


STEPS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "statistics": statistics_step,
    "examples": examples_step,
    "one": one_step,
    "loop": loop_step,
}


def report(
    arguments: argparse.Namespace,
    found: dict[str, dict[str, Any]],
    cold: list[dict[str, Any]],
    n_rows: int,
) -> None:
    """Print the table."""
    rates = {name: step["latents"] / step["seconds"] for name, step in found.items()}
    print(f"{n_rows:,} activations aimed at, {os.cpu_count()} cores")
    for name, step in found.items():
        print(
            f"  {name:12} {rates[name]:9,.1f} latents/s   {step['latents']:,} latents in "
            f"{step['seconds']:.1f} s   {1000 * step['cpu'] / step['latents']:.2f} CPU-ms each, "
            f"{step['cpu'] / step['seconds']:.2f} cores busy   peak {step['mib']:,.0f} MiB"
        )
    if cold:
        spent = [1000 * step["seconds"] for step in cold]
        n = max(step["examples"] for step in cold)
        print(
            f"  one latent   {min(spent):9,.1f} ms at best, {statistics.median(spent):.1f} in the "
            f"median of {len(spent)} processes   {1000 * min(s['cpu'] for s in cold):.0f} CPU-ms   "
            f"{n} examples"
        )
    if {"examples", "loop"} <= rates.keys():
        used = {name: step["cpu"] / step["latents"] for name, step in found.items()}
        print(
            f"  examples / loop {rates['examples'] / rates['loop']:.1f} by time, "
            f"{used['loop'] / used['examples']:.1f} by CPU time"
        )
    for name, step in found.items():
        for statement, seconds in sorted(step.get("statements", {}).items(), key=lambda i: -i[1]):
            print(f"    {name:12} {seconds:7.2f} s  {statement}")


if __name__ == "__main__":
    main()
