"""Draws against a draw done by hand on many crowded lakes, and weights over many seeds.

    PYTHONPATH=. python benchmarks/draws.py [--lakes 100] [--seeds 4000]

exact     small random lakes, crowded so that windows overlap, six random settings each: what is
          drawn for every latent and role against `tests/sampling/truth.py`, which orders all
          windows in plain Python and keeps no reserve. Counted as different: other windows,
          populations or weights, fewer windows than asked for while the lake has more, and other
          random negatives.
unbiased  sums with weights over the windows that are drawn against the sums over all windows: the
          error of the mean over the seeds, as a share of the sum, and in standard errors. Windows
          are shown as they were cut (aligned), where the weights are exact, and about their peaks,
          where a window that overlaps an earlier one waits.

Exits with 1 if a draw differs or an aligned sum is off by more than four standard errors.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from typing import Any, get_args

import numpy as np

from lakeinterp.config import SamplingConfig
from lakeinterp.config.sampling import Draw
from lakeinterp.sampling import open_session
from lakeinterp.sampling.examples import draw
from lakeinterp.sampling.placing import Setting
from lakeinterp.sampling.positives import positives, turns
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT, planted_lake
from tests.sampling import truth
from tests.sampling.small import random_lake

DRAWS = get_args(Draw)
SCORE, N_DRAWN = 1, 12


def main() -> None:
    """Run both and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lakes", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=4000)
    arguments = parser.parse_args()
    n, different = exact(arguments.lakes)
    print(f"exact     {n:,} draws, different: {dict(different) or 'none'}")
    worst = unbiased(arguments.seeds)
    sys.exit(bool(different) or worst > 4)


def exact(n_lakes: int) -> tuple[int, Counter[str]]:
    """Return how many draws were compared, and how many differ, by draw."""
    n, different = 0, Counter[str]()
    for seed in range(n_lakes):
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as folder:
            shares = (0.03, 0.1, 0.3, 0.6)
            context, n_sequences = int(rng.choice([24, 64, 128])), int(rng.integers(3, 9))
            planted = random_lake(folder, seed, context, n_sequences, shares)
            for _ in range(6):
                found = compared(planted, crowded(rng), bucket=int(rng.integers(3)))
                n += len(found)
                different.update(name for name, is_equal in found if not is_equal)
    return n, different


def crowded(rng: np.random.Generator) -> SamplingConfig:
    """Return settings under which windows meet and cells run out."""
    return SamplingConfig(
        window_tokens=int(rng.choice([2, 3, 5, 9])),
        placement=str(rng.choice(["peak", "peak", "aligned"])),
        peak_at=float(rng.choice([0, 0.5, 0.75, 1])),
        n_quantiles=int(rng.choice([1, 2, 5, 10])),
        n_explain=int(rng.integers(1, 40)),
        n_score=int(rng.integers(1, 40)),
        explain_draw=DRAWS[rng.integers(len(DRAWS))],
        score_draw=DRAWS[rng.integers(len(DRAWS))],
        mix_top=float(rng.choice([0, 0.2, 0.5, 1])),
        n_random=int(rng.integers(0, 30)),
        n_explain_negatives=int(rng.integers(0, 30)),
        seed=int(rng.integers(0, 1000)),
        min_windows=1,
    )


def compared(planted: Any, config: SamplingConfig, bucket: int) -> list[tuple[str, bool]]:
    """Return for every draw of a unit its name and whether it is the one done by hand."""
    unit = Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=bucket)
    latents = [2 * bucket, 2 * bucket + 1]
    with open_session(planted.lake, CAPTURE, config) as session:
        rows = draw(session, unit, latents).to_pylist()
    tiles = truth.tiles(planted, config)
    found: list[tuple[str, bool]] = []
    for latent in latents:
        active = truth.windows(planted, tiles, latent)
        for role in ("explain", "score") if active else ():
            is_score = role == "score"
            how = config.score_draw if is_score else config.explain_draw
            n = config.n_score if is_score else config.n_explain
            mine = [r for r in rows if (r["latent"], r["role"]) == (latent, role)]
            by_hand = truth.positives(
                planted, active, latent, role, n, how, config, turns(config.n_quantiles)
            )
            there = {
                truth.shown(t, at, config)[0] for t, (_, at) in active.items() if t.role == role
            }
            drawn = [r for r in mine if r["stratum"] == "activating"]
            is_equal = shown(drawn) == sorted(map(rounded, by_hand))
            found.append((how, is_equal and len(drawn) == min(n, len(there))))
            n = config.n_random if is_score else config.n_explain_negatives
            silent = truth.negatives(planted, tiles, active, latent, role, n, config)
            walked = [(r["start"], len(r["tokens"])) for r in mine if r["stratum"] == "random"]
            found.append(("negatives", walked == [s[:2] for s in silent]))
    return found


def shown(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return drawn rows as `rounded` returns those drawn by hand."""
    columns = ("quantile", "population", "weight")
    return sorted(rounded((r["start"], len(r["tokens"]), *(r[c] for c in columns))) for r in rows)


def rounded(drawn: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return start, length, quantile, population and weight, -1 for none."""
    return (*drawn[:4], -1.0 if drawn[4] is None else round(drawn[4], 9))


def unbiased(n_seeds: int) -> float:
    """Print the errors of sums with weights; return the worst of the aligned in standard errors."""
    config = SamplingConfig(window_tokens=16, n_quantiles=5, min_windows=1, mix_top=0.3)
    unit, latents = Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=1), np.arange(4, 8)
    with tempfile.TemporaryDirectory() as folder:
        lake = planted_lake(folder, n_sequences=150, seed=2).lake
        with open_session(lake, CAPTURE, config) as session:
            session.windows(unit, latents.tolist())
            tiles, windows = session.tiles, session.found
    mine = np.flatnonzero(tiles.role[windows.number] == SCORE)
    values = np.stack([np.ones(len(windows)), windows.n, windows.mass(), windows.peak > 0.5])
    of = windows.latent - latents[0]
    whole = np.stack([np.bincount(of[mine], v[mine], len(latents)) for v in values])
    worst = 0.0
    for setting, placement in ((Setting(16, None), "aligned"), (Setting(16, 12), "peak")):
        for how in ("random", "quantiles", "mix", "importance"):
            sums = []
            for seed in range(n_seeds):
                reseeded = config.model_copy(update={"seed": seed})
                found = positives(windows, tiles, latents, SCORE, N_DRAWN, how, reseeded, setting)
                weighed = values[:, found.window] * found.weight
                sums.append([np.bincount(found.group, w, len(latents)) for w in weighed])
            each = np.array(sums)
            off = each.mean(axis=0) - whole
            error = np.maximum(each.std(axis=0, ddof=1) / np.sqrt(n_seeds), 1e-9 * whole)
            share, z = np.abs(off / whole).max(), np.abs(off / error).max()
            print(f"unbiased  {placement:8}{how:11} off by {share:.2%} at most, {z:.1f} errors")
            worst = max(worst, float(z)) if placement == "aligned" else worst
    return worst


if __name__ == "__main__":
    main()
