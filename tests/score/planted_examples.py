"""Writes `latents` and `examples` of a planted lake from its dense truth, without SQL."""

from __future__ import annotations

import random

import numpy as np

from lakeinterp.config import Config
from lakeinterp.lake.schema import TABLES
from lakeinterp.lake.units import sample_id
from tests.planted import CAPTURE, HOOKPOINT, planted_lake

WINDOW = 16
N = 20


def planted_config(**sections):
    settings = {
        "sampling": {"window_tokens": WINDOW, "n_quantiles": 2, "min_windows": 4},
        "corpus": {"context_tokens": 64},
        "capture": {"shard_tokens": 640},
        "chat": {"concurrency": 4},
        "score": {"scorers": ["pattern"], "n_borrowed": 3, "repeat_share": 0},
    }
    for section, values in sections.items():
        settings[section] = {**settings.get(section, {}), **values}
    return Config.model_validate(settings)


def sampled_lake(root, config, **planted):
    """Return a planted lake that also holds statistics and examples."""
    made = planted_lake(str(root), **planted)
    n_latents = made.dense.shape[1]
    windows = _windows(made)
    statistics, examples = [], []
    bucket_latents = made.lake.rows("hookpoints")[0]["bucket_latents"]
    for latent in range(n_latents):
        values = made.dense[:, latent]
        active = [w for w in windows if values[w[1]].any()]
        statistics.append(_statistics(latent, values, active))
        if len(active) >= config.sampling.min_windows:
            rows = _examples(latent, values, made, windows, config, bucket_latents)
            examples += rows
    scope = {"capture": CAPTURE, "hookpoint": HOOKPOINT}
    made.lake.upsert("latents", statistics, scope=scope)
    made.lake.upsert("examples", examples, scope=scope)
    return made


def _windows(made):
    """Return (document, slice) of every whole window of one document."""
    documents = made.documents.ravel()
    found = []
    for start in range(0, len(documents) - WINDOW + 1, WINDOW // 2):
        of = documents[start : start + WINDOW]
        if of[0] >= 0 and (of == of[0]).all():
            found.append((int(of[0]), slice(start, start + WINDOW)))
    return found


def _statistics(latent, values, active):
    n = int((values > 0).sum())
    return {
        **dict.fromkeys(TABLES["latents"].columns),
        "capture": CAPTURE,
        "hookpoint": HOOKPOINT,
        "latent": latent,
        "n_activations": n,
        "n_windows": len(active),
        "n_tokens": len(values),
        "density": n / len(values),
        "max": float(values.max()),
        "status": "ok" if n else "dead",
    }


def _examples(latent, values, made, windows, config, bucket_latents):
    rng = random.Random(latent)
    rows = []
    for role in ("explain", "score"):
        mine = [w for w in windows if (w[0] % 2 == 0) == (role == "explain")]
        active = sorted((w for w in mine if values[w[1]].any()), key=lambda w: -values[w[1]].max())
        silent = [w for w in mine if not values[w[1]].any()]
        half = len(active) // 2
        for quantile, group in ((1, active[:half]), (2, active[half:])):
            drawn = rng.sample(group, min(N // 2, len(group)))
            rows += [("activating", quantile, len(group), role, w) for w in drawn]
        drawn = rng.sample(silent, min(N, len(silent)))
        rows += [("random", None, len(silent), role, w) for w in drawn]
    return [
        _example(latent, number, row, values, made, config, bucket_latents)
        for number, row in enumerate(rows)
    ]


def _example(latent, number, row, values, made, config, bucket_latents):
    stratum, quantile, population, role, (document, where) = row
    inside = values[where]
    return {
        **dict.fromkeys(TABLES["examples"].columns),
        "capture": CAPTURE,
        "hookpoint": HOOKPOINT,
        "bucket": latent // bucket_latents,
        "sample": sample_id(made.lake, CAPTURE, config.sampling),
        "latent": latent,
        "example": number,
        "role": role,
        "stratum": stratum,
        "quantile": quantile,
        "document": document,
        "start": where.start,
        "tokens": made.tokens.ravel()[where].tolist(),
        "values": inside.tolist(),
        "peak": float(inside.max()),
        "peak_offset": int(np.argmax(inside)) if quantile else None,
        "population": population,
    }
