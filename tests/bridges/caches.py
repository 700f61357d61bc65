"""Small delphi caches, written with the safetensors package itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from safetensors.torch import save_file

N_SEQUENCES, CONTEXT = 6, 8
CONFIG = {"dataset_repo": "text", "dataset_split": "train", "dataset_name": "",
          "dataset_column": "text", "batch_size": 2, "cache_ctx_len": CONTEXT, "n_tokens": 48,
          "n_splits": 2, "model_name": "nobody"}  # fmt: skip


@dataclass
class Made:
    """A cache and the rows it should give."""

    rows: dict[str, dict[tuple[int, int], float]] = field(default_factory=dict)
    """Hookpoint to (latent, token) to value."""
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0))


def write(
    folder, *, seed=0, hookpoints=("layers.3",), width=10, n_splits=2, dtype=torch.float16,
    locations=np.uint16, tokens="all", shuffled=False, n_rows=60, n_ids=17,
):  # fmt: skip
    """Write a cache of random rows below a folder and return what it holds."""
    dice = np.random.default_rng(seed)
    ids = dice.integers(0, n_ids, size=(N_SEQUENCES, CONTEXT))
    made = Made(tokens=ids)
    for hookpoint in hookpoints:
        edges = [i * width // n_splits for i in range(n_splits + 1)]
        made.rows[hookpoint.lstrip(".")] = {}
        for first, stop in pairwise(edges):
            places = dice.choice(
                N_SEQUENCES * CONTEXT * (stop - first),
                size=min(n_rows, 40 * (stop - first)),
                replace=False,
            )
            places = places if shuffled else np.sort(places)
            token, latent = np.divmod(places, stop - first)
            drawn = torch.from_numpy(dice.standard_normal(len(places)) + 0.01).to(dtype)
            drawn[drawn == 0] = 1
            made.rows[hookpoint.lstrip(".")] |= {
                (int(n + first), int(t)): float(v)
                for n, t, v in zip(latent, token, drawn.float(), strict=True)
            }
            where = np.stack([*np.divmod(token, CONTEXT), latent], axis=1).astype(locations)
            held = {"locations": torch.from_numpy(where), "activations": drawn}
            if tokens == "all" or (tokens == "last" and stop == width):
                held["tokens"] = torch.from_numpy(ids)
            path = folder / "latents" / hookpoint
            path.mkdir(parents=True, exist_ok=True)
            save_file(held, path / f"{first}_{stop - 1}.safetensors")
        config = CONFIG | {"n_splits": n_splits}
        (path / "config.json").write_text(json.dumps(config, indent=4))
    return made
