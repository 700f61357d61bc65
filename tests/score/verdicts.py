"""A judge that says the same of a window whenever it is drawn, so that the truth can be counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lakeinterp.config import SamplingConfig
from lakeinterp.lake.schema import TABLES
from lakeinterp.sampling import open_session
from lakeinterp.sampling.examples import draw
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT
from tests.score.simulated import WHO


def drawn(lake, how, n, seed):
    """Return the drawn windows of the score role; `n` activating and 2 n random ones a latent."""
    config = SamplingConfig(
        window_tokens=8, placement="aligned", score_draw=how, n_score=n, n_random=2 * n,
        n_explain=1, n_explain_negatives=0, n_quantiles=5, min_windows=60, seed=seed,
    )  # fmt: skip
    unit = Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=0)
    with open_session(lake, CAPTURE, config) as session:
        rows = draw(session, unit, list(range(12)))
    names = ["latent", "example", "role", "stratum", "quantile", "document", "start", "peak"]
    kept = rows.select([*names, "population", "weight"]).to_pylist()
    return [r for r in kept if r["role"] == "score" and r["stratum"] in ("activating", "random")]


def verdict(row):
    """Say a window is active: a pure function of it, more often so the stronger it is."""
    chance = np.random.default_rng([row["latent"], row["start"]]).random()
    return bool(chance < (0.3 + 0.6 * min(1, row["peak"] / 4) if row["peak"] > 0 else 0.05))


def exact(rows):
    """Return each latent's metrics over all windows of the role."""
    counts = {}
    for row in rows:
        place = (0 if row["stratum"] == "activating" else 2) + verdict(row)
        counts.setdefault(row["latent"], np.zeros(4))[place] += 1
    return {
        latent: {
            "recall_natural": hits / (hits + missed),
            "precision_natural": hits / max(1, hits + alarms),
            "f1_natural": 2 * hits / (2 * hits + missed + alarms),
        }
        for latent, (missed, hits, _, alarms) in counts.items()
    }


def judgements(rows):
    """Return the verdicts on drawn windows as rows of the lake."""
    blank = dict.fromkeys(TABLES["judgements"].columns)
    shared = ("latent", "stratum", "quantile", "population", "weight", "document", "example")
    said = [
        {
            **blank, **WHO, **{name: row[name] for name in shared},
            "explanation": f"e{row['latent']}", "role": "own", "item": row["example"],
            "truth": row["stratum"] == "activating", "prediction": verdict(row), "status": "ok",
        }
        for row in rows
    ]  # fmt: skip
    latents = sorted({row["latent"] for row in rows})
    made = {**dict.fromkeys(TABLES["explanations"].columns), **WHO, "status": "ok"}
    made = {name: made[name] for name in TABLES["explanations"].columns}
    explanations = [{**made, "latent": i, "explanation": f"e{i}"} for i in latents]
    return {
        "judgements": pa.Table.from_pylist(said, schema=TABLES["judgements"].schema),
        "explanations": pa.Table.from_pylist(explanations, schema=TABLES["explanations"].schema),
    }
