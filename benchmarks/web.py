"""How long the served page's pages take: on a lake of 60 M activations, and on one of 1 M latents.

    python benchmarks/web.py [FOLDER] [--rows 60M] [--latents 1M] [--reached 40]

Makes both lakes below FOLDER unless they are there: `benchmarks/generated_lake.py`'s with latents
counted, examples, rules and their judgements for a few latents and generated explanations and
scores for all others; and one whose tables `latents`, `explanations` and `scores` hold a million
generated rows and more. Starts `lakeinterp serve` on each and asks for pages one after the other;
says the time a page took and the processor time the server spent on it, all threads together.
"""

from __future__ import annotations

import argparse
import http.client
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psutil
import pyarrow as pa

from benchmarks import generated_lake
from benchmarks.generated_lake import CAPTURE, HOOKPOINT, Recipe
from lakeinterp.lake import Lake
from lakeinterp.lake.schema import TABLES
from lakeinterp.terms import now

METRICS = ("balanced_accuracy", "auroc", "precision_natural", "recall_natural", "f1_natural")
SITES = 4
_BLOCK = 131_072


def scored_latents(folder: Path, rows: int, n_explained: int) -> Lake:
    """Make or find the lake of many activations, its latents all counted and explained."""
    lake = Lake(str(folder))
    if lake.table("scores") is None:
        generated_lake.generate(str(folder), Recipe(rows))
        for step in ("sample", "explain", "score"):
            command = [sys.executable, "-m", "lakeinterp", step, "--lake", str(folder)]
            subprocess.run([*command, "--max-latents", str(n_explained)], check=True)
    told = {row["latent"] for row in lake.rows("explanations")}
    width = lake.rows("hookpoints")[0]["n_latents"]
    if others := [i for i in range(width) if i not in told]:
        publish(lake, CAPTURE, HOOKPOINT, np.asarray(others), seed=1)
    return lake


def many_latents(folder: Path, n: int) -> Lake:
    """Make or find the lake of many latents, in four hookpoints."""
    lake = Lake(str(folder))
    if lake.table("scores") is not None:
        return lake
    generated_lake.generate(str(folder), Recipe(200_000, latents=64))
    (capture,), (site,) = lake.rows("captures"), lake.rows("hookpoints")
    lake.upsert("captures", [{**capture, "capture": "wide"}], scope={"capture": "wide"})
    for i in range(SITES):
        row = {**site, "capture": "wide", "hookpoint": f"layers.{i}", "n_latents": n // SITES}
        lake.upsert("hookpoints", [row], scope={"capture": "wide"})
        for first in range(0, n // SITES, _BLOCK):
            latents = np.arange(first, min(n // SITES, first + _BLOCK))
            publish_latents(lake, "wide", f"layers.{i}", latents, seed=i)
            publish(lake, "wide", f"layers.{i}", latents, seed=i)
    return lake


def publish_latents(lake: Lake, capture: str, hookpoint: str, latents, seed: int) -> None:
    """Write generated rows of `latents`."""
    rng, n = np.random.default_rng([seed, int(latents[0]), 7]), len(latents)
    density = np.exp(rng.normal(-7, 2, n)).clip(0, 1)
    tokens = rng.integers(2, 30_000, (n, 8))
    written(
        lake, "latents", capture, hookpoint,
        latent=latents.astype(np.int32),
        n_activations=(density * 1e6).astype(np.int64),
        n_tokens=np.full(n, 1_000_000),
        density=density,
        max=rng.lognormal(1, 1, n).astype(np.float32),
        mean=np.ones(n, np.float32),
        top_tokens=[[{"token_id": int(t), "count": 9, "pmi": 1.0} for t in row] for row in tokens],
        status=np.where(density < 1e-6, "rare", "ok"),
    )  # fmt: skip


def publish(lake: Lake, capture: str, hookpoint: str, latents, seed: int) -> None:
    """Write generated explanations and scores, one of an explainer for each latent."""
    rng, n = np.random.default_rng([seed, int(latents[0])]), len(latents)
    names = np.asarray([f"{hookpoint}-{i}" for i in latents])
    words = [word(i) for i in rng.integers(2, 30_000, (n, 2)).ravel()]
    texts = [
        f"mentions of `{a}`, often near `{b}`" for a, b in zip(words[::2], words[1::2], strict=True)
    ]
    common = {"latent": latents.astype(np.int32), "explanation": names, "run": np.full(n, "r")}
    written(
        lake, "explanations", capture, hookpoint, **common, explainer=np.full(n, "pattern"),
        settings=np.full(n, "made"), text=texts, status=np.full(n, "ok"),
        reply_keys=[[] for _ in range(n)], created_at=[now()] * n,
    )  # fmt: skip
    value, null = rng.beta(4, 2, n), rng.normal(0.5, 0.02, n)
    for metric in METRICS:
        written(
            lake, "scores", capture, hookpoint, **common, scorer=np.full(n, "pattern"),
            settings=np.full(n, "judged"), metric=np.full(n, metric), value=value,
            ci_low=value - 0.08, ci_high=value + 0.05, n=np.full(n, 100), n_failed=np.zeros(n, int),
            null_value=null, corrected=(value - null) / (1 - null), p_value=rng.random(n),
            status=np.full(n, "ok"), created_at=[now()] * n,
        )  # fmt: skip


def word(i: int) -> str:
    """Return the text of a token of the generated vocabulary."""
    return f"w{i}"


def written(lake: Lake, table: str, capture: str, hookpoint: str, **columns) -> None:
    """Add a file of rows to a table; columns not given are null."""
    n = len(columns["latent"])
    definition = TABLES[table]
    partition = {"capture": capture, "hookpoint": hookpoint}
    fields = [f for f in definition.schema if f.name not in partition]
    rows = pa.table(
        [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type)
         for f in fields],
        schema=pa.schema(fields),
    )  # fmt: skip
    first, metric = int(columns["latent"][0]), str(columns.get("metric", [""])[0])
    name = f"generated-{first:09d}-{metric}"
    file = lake.store.write_parquet(
        table, rows, schema=definition.schema, partition=partition, name=name,
        statistics=("latent",), compression="zstd",
    )  # fmt: skip
    lake.publish(table, [file], app=f"benchmark/{table}/{hookpoint}/{name}", version=1)


class Server:
    """A served lake, asked over HTTP as a browser asks."""

    def __init__(self, lake: str) -> None:
        command = [sys.executable, "-m", "lakeinterp", "serve", "--lake", lake, "--port", "0"]
        start = time.perf_counter()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if found := re.search(r"http://127.0.0.1:(\d+)/", line):
                self.port = int(found[1])
                break
        self.started_s = time.perf_counter() - start
        self._usage = psutil.Process(self._process.pid)
        self.started_cpu_s = self._cpu()

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()

    def _cpu(self) -> float:
        times = self._usage.cpu_times()
        return times.user + times.system

    def memory(self) -> float:
        """Return the server's memory in GB."""
        return self._usage.memory_info().rss / 1e9

    def ask(self, path: str) -> tuple[float, float, str]:
        """Return the seconds a page took, the server's processor seconds and the page."""
        before, start = self._cpu(), time.perf_counter()
        con = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        con.request("GET", path)
        answer = con.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {text[:400]}")
        return time.perf_counter() - start, self._cpu() - before, text


def measured(title: str, server: Server, paths: list[str]) -> str:
    """Ask for pages and return a row of the table; the text of the last one is returned too."""
    found = [server.ask(path) for path in paths]
    walls, cpus = [w * 1000 for w, _, _ in found], [c * 1000 for _, c, _ in found]
    size = len(found[-1][2]) / 1000
    print(
        f"| {title} | {len(found)} | {statistics.median(walls):.0f} | {max(walls):.0f} | "
        f"{statistics.mean(cpus):.0f} | {size:.0f} |",
        flush=True,
    )
    return found[-1][2]


def lists(server: Server, n: int, capture: str = "") -> None:
    """Measure lists of latents in many orders, with filters, by words and far inside."""
    rest = {"capture": capture} if capture else {}

    def to(**query: object) -> str:
        return "/?" + urlencode({**query, **rest})

    measured("first page", server, [to()])
    page = measured("list, best first", server, [to()] * n)
    measured("list by density", server, [to(sort="density")] * n)
    measured("list by number", server, [to(sort="number")] * n)
    filters = {"score_low": 0.7, "p_high": 0.05, "density_high": 1e-3}
    measured("list with three filters", server, [to(**filters)] * n)
    measured("search of a rare word", server, [to(q=f"w{i}") for i in range(2000, 2000 + n)])
    measured("search of a common word", server, [to(q="mentions often")] * n)
    walls = []
    for _ in range(n):
        link = re.search(r'rel=next href="([^"]+)"', page)
        if link is None:
            break
        wall, _, page = server.ask(unescape(link[1]))
        walls.append(wall * 1000)
    if walls:
        print(f"| next, next, … | {len(walls)} | {statistics.median(walls):.0f} "
              f"| {max(walls):.0f} | | |")  # fmt: skip
    measured("last page", server, [to(before="end")] * n)


def main() -> None:
    """Make both lakes, serve them, print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rows", default="60M")
    parser.add_argument("--latents", default="1M")
    parser.add_argument("--explained", type=int, default=64)
    parser.add_argument("--reached", type=int, default=40, help="pages of each kind")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(given.folder or spare)
        few = scored_latents(folder / "activations", number(given.rows), given.explained)
        many = many_latents(folder / "latents", number(given.latents))
        for title, lake in ((f"{given.rows} activations", few), (f"{given.latents} latents", many)):
            server = Server(lake.root)
            print(f"\n{title}: ready after {server.started_s:.1f} s "
                  f"({server.started_cpu_s:.1f} s of CPU), {server.memory():.2f} GB\n")  # fmt: skip
            print(
                "| pages | asked | median ms | most ms | CPU ms | kB |\n|---|---|---|---|---|---|"
            )
            lists(server, given.reached)
            if lake is few:
                latents(server, lake, given.reached)
            print(f"\nafterwards {server.memory():.2f} GB")
            server.stop()


def latents(server: Server, lake: Lake, n: int) -> None:
    """Measure pages of latents with examples and judgements, and of a hookpoint."""
    told = [r["latent"] for r in lake.rows("explanations", "explainer = 'pattern'")]
    full = [r["latent"] for r in lake.rows("examples") if r["example"] == 0]
    rng = random.Random(0)
    for title, known in (("latent, in full", full), ("latent without examples", told)):
        chosen = [rng.choice(known) for _ in range(n)]
        measured(title, server, [f"/latent?hookpoint={HOOKPOINT}&latent={i}" for i in chosen])
    measured("hookpoint, first", server, [f"/hookpoint?hookpoint={HOOKPOINT}"])
    measured("hookpoint again", server, [f"/hookpoint?hookpoint={HOOKPOINT}"] * 5)
    measured("runs", server, ["/runs"] * 5)


def number(text: str) -> int:
    """Return 60_000_000 for `60M`."""
    scale = {"k": 10**3, "K": 10**3, "M": 10**6}.get(text[-1])
    return int(float(text[:-1]) * scale) if scale else int(text)


if __name__ == "__main__":
    main()
