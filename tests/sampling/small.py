"""Small lakes with everything that is awkward: short documents, marks inside them, few windows."""

from __future__ import annotations

import numpy as np

from lakeinterp.lake import Lake
from tests import planted as planting
from tests.planted import WORDS

N_LATENTS = 6


def random_lake(root, seed, context, n_sequences=None, shares=(0, 0.01, 0.1, 0.6)):
    """Write a lake whose documents touch, whose marks stand inside documents, and the like."""
    rng = np.random.default_rng(seed)
    n = n_sequences or int(rng.integers(3, 9))
    names = np.concatenate([[-1], rng.integers(-(2**62), 2**62, 6 if n < 9 else n)])
    documents = names[np.cumsum(rng.random(n * context) < 0.15) % len(names)].reshape(n, context)
    documents = np.where(documents < 0, -1, documents)
    tokens = rng.integers(0, len(WORDS), size=(n, context))
    share = rng.choice(shares, N_LATENTS)
    fires = rng.random((tokens.size, N_LATENTS)) < share
    dense = np.where(fires, rng.choice([0.25, 0.75, 1.0, 3.5, -2.0], fires.shape), 0)
    dense = dense.astype(np.float32)
    lake = Lake(root)
    planting._write_corpus(lake, tokens, documents)
    planting._write_capture(lake, context, N_LATENTS, 3)
    planting._write_activations(lake, dense, context, N_LATENTS, 3, int(rng.integers(1, 4)))
    return planting.Planted(lake, tokens, documents, dense)
