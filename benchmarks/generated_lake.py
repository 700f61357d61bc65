"""A lake of any size with activations as sparse coders have them, made from a seed.

    python benchmarks/generated_lake.py FOLDER [--rows 60M] [--latents 16384] [--l0 64]

Documents of log-normal length are packed into sequences of 256 tokens behind a mark of their
beginning; tokens follow Zipf's law. Latents' densities are log-normal, a few latents are dense and
one in fifty is dead; activations come in bursts within documents, half of the latents begin theirs
at one token of the vocabulary, and values are log-normal, rounded to bfloat16. Written through the
lake's own functions, one shard and a few buckets in memory at a time; a folder that holds such a
lake already is left as it is, and a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from lakeinterp.lake import Lake
from lakeinterp.lake.activations import bucket_latents, write_activations
from lakeinterp.lake.schema import TABLES
from lakeinterp.lake.units import shard_app
from lakeinterp.terms import now

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

CAPTURE, HOOKPOINT, CORPUS, TOKENIZER = "generated", "layers.0", "generated-corpus", "words"
CONTEXT, SHARD_TOKENS, VOCABULARY = 256, 262_144, 32_768
BEGIN, END = 0, 1
"""Tokens of no document: the first of every sequence, and the one after a document."""
_N_SPECIAL = 2
_BLOCK_BUCKETS = 4
_BURST, _GAP = 2.5, 3.0
"""Mean activations of a burst and mean tokens from one to the next."""
_KEPT = 0.89
"""Share of the activations aimed at that end up inside a document and on a token of their own."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the lake is made from."""

    rows: int
    """Activations aimed at; the lake comes within a few percent."""
    latents: int = 16_384
    l0: int = 64
    """Mean active latents of a token."""
    seed: int = 0

    @property
    def n_sequences(self) -> int:
        """Sequences of the corpus."""
        return max(1, self.rows // self.l0 // (CONTEXT - 1))


class Latents(NamedTuple):
    """What each latent does; shape [latents]."""

    density: Floats
    """Share of tokens aimed at."""
    token: Ints
    """Token at which its bursts begin, -1 for anywhere."""
    scale: Floats
    """Median activation."""


class Shard(NamedTuple):
    """One shard of the corpus."""

    tokens: Ints
    """[sequences, context]"""
    documents: Ints
    """Document of each token, -1 for none; [sequences, context]."""
    stop: Ints
    """Token after the last of the document's span, counted within the shard; flat."""
    places: Ints
    """Tokens of documents, sorted by token id, then by place."""
    first: Ints
    """Where each token id begins in `places`; [vocabulary + 1]."""


def main() -> None:
    """Make the lake that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rows", type=count, default=60_000_000)
    parser.add_argument("--latents", type=int, default=16_384)
    parser.add_argument("--l0", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args())
    start = time.perf_counter()
    n_rows = generate(arguments.pop("folder"), Recipe(**arguments))
    print(f"{n_rows:,} activations in {time.perf_counter() - start:.1f} s")


def count(text: str) -> int:
    """Read a number such as 8M or 250_000."""
    factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1].upper(), 1)
    return int(float(text[:-1] if factor > 1 else text) * factor)


def generate(folder: str, recipe: Recipe) -> int:
    """Write what the lake lacks and return its number of activations.

    Raises:
        ValueError: the folder holds the lake of another recipe.
    """
    lake = Lake(folder)
    _write_capture(lake, recipe)
    latents = _latents(recipe)
    size = SHARD_TOKENS // CONTEXT
    for number, first in enumerate(range(0, recipe.n_sequences, size)):
        n = min(size, recipe.n_sequences - first)
        app = shard_app(CAPTURE, number)
        if lake.committed("activations", app):
            continue
        rng = np.random.default_rng([recipe.seed, 1, number])
        shard = _shard(rng, n)
        _write_sequences(lake, shard, first, number)
        _write_activations(lake, rng, shard, latents, first, app)
    delta = lake.table("activations")
    assert delta is not None
    added = pa.table(delta.get_add_actions(flatten=True))
    return sum(added["num_records"].to_pylist())


def _latents(recipe: Recipe) -> Latents:
    rng = np.random.default_rng([recipe.seed, 0])
    n = recipe.latents
    density = rng.lognormal(0, 1.6, n)
    density[rng.random(n) < 0.02] = 0
    dense = rng.choice(n, max(1, n // 1500), replace=False)
    share = rng.uniform(0.1, 0.6, len(dense))
    density[dense] = 0
    density *= (recipe.l0 - share.sum()) / density.sum()
    density = np.minimum(density, 0.1)
    density[dense] = share
    frequency = 1 / np.arange(1, VOCABULARY - _N_SPECIAL + 1)
    frequency /= frequency.sum()
    wanted = density * rng.uniform(0.7, 4, n)
    token = _N_SPECIAL + np.searchsorted(-frequency, -np.maximum(wanted, frequency[-1]))
    token = np.where((rng.random(n) < 0.5) & (density < 0.05), token, -1)
    return Latents(density, token, rng.lognormal(0.5, 0.7, n))


def _shard(rng: np.random.Generator, n_sequences: int) -> Shard:
    n = n_sequences * (CONTEXT - 1)
    lengths = np.maximum(8, rng.lognormal(5.7, 1.0, n // 100 + 8)).astype(np.int64)
    names = rng.integers(0, 2**62, len(lengths))
    stream = np.repeat(names, lengths + 1)
    stream[np.cumsum(lengths + 1) - 1] = -1
    documents = np.full((n_sequences, CONTEXT), -1)
    documents[:, 1:] = stream[:n].reshape(n_sequences, CONTEXT - 1)
    cdf = np.cumsum(1 / np.arange(1, VOCABULARY - _N_SPECIAL + 1))
    drawn = _N_SPECIAL + np.searchsorted(cdf, rng.random(documents.size) * cdf[-1])
    tokens = np.where(documents < 0, END, drawn.reshape(documents.shape))
    tokens[:, 0] = BEGIN
    flat = documents.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, len(flat))
    stop = ends[np.searchsorted(ends, np.arange(len(flat)), side="right")]
    inside = np.flatnonzero(flat >= 0)
    places = inside[np.argsort(tokens.ravel()[inside], kind="stable")]
    first = np.searchsorted(tokens.ravel()[places], np.arange(VOCABULARY + 1))
    return Shard(tokens, documents, stop, places, first)


def _write_activations(
    lake: Lake, rng: np.random.Generator, shard: Shard, latents: Latents, first: int, app: str
) -> None:
    width = bucket_latents(len(latents.density), None)
    files = []
    for start in range(0, len(latents.density), width * _BLOCK_BUCKETS):
        block = np.arange(start, min(start + width * _BLOCK_BUCKETS, len(latents.density)))
        latent, place = _fired(rng, shard, latents, block)
        noise = rng.standard_normal(len(latent), dtype=np.float32)
        values = latents.scale.astype(np.float32)[latent] * np.exp(0.6 * noise)
        values.view(np.uint32)[...] &= np.uint32(0xFFFF0000)
        files += write_activations(
            lake.store,
            capture=CAPTURE,
            hookpoint=HOOKPOINT,
            latents_per_bucket=width,
            latents=latent.astype(np.int32),
            tokens=place + first * CONTEXT,
            values=values,
            name=f"{first:010d}-{first + len(shard.tokens):010d}",
        )
    lake.publish("activations", files, app=app, version=len(shard.tokens))


def _fired(
    rng: np.random.Generator, shard: Shard, latents: Latents, block: Ints
) -> tuple[Ints, Ints]:
    """Return latents and places within the shard, sorted, each pair once."""
    n_tokens = shard.tokens.size
    density, token = latents.density[block], latents.token[block]
    sparse = density < 0.1
    events = rng.poisson(np.where(sparse, density * len(shard.places) / _BURST / _KEPT, 0))
    latent = np.repeat(block, events)
    low, high = shard.first[token], shard.first[token + 1]
    anywhere = (token < 0) | (low == high)
    low, high = np.where(anywhere, 0, low), np.where(anywhere, len(shard.places), high)
    low, high = np.repeat(low, events), np.repeat(high, events)
    start = shard.places[(low + rng.random(len(latent)) * (high - low)).astype(np.int64)]
    n_each = rng.geometric(1 / _BURST, len(latent))
    gaps = rng.geometric(1 / _GAP, n_each.sum())
    begins = np.cumsum(n_each) - n_each
    gaps[begins] = 0
    run = np.cumsum(gaps)
    place = np.repeat(start - run[begins], n_each) + run
    kept = place < np.repeat(shard.stop[start], n_each)
    keys = [np.repeat(latent, n_each)[kept] * n_tokens + place[kept]]
    for i in np.flatnonzero(~sparse):
        chosen = shard.places[rng.random(len(shard.places)) < density[i]]
        keys.append(block[i] * n_tokens + chosen)
    unique = np.unique(np.concatenate(keys))
    return unique // n_tokens, unique % n_tokens


def _write_sequences(lake: Lake, shard: Shard, first: int, number: int) -> None:
    n = len(shard.tokens)
    schema = TABLES["sequences"].schema
    begins = np.ones(shard.documents.shape, dtype=bool)
    begins[:, 1:] = shard.documents[:, 1:] != shard.documents[:, :-1]
    document = shard.documents[begins]
    span = schema.field("documents").type.value_type
    spans = pa.StructArray.from_arrays(
        [
            pa.array(document, mask=document < 0),
            pa.array(np.nonzero(begins)[1], pa.int32()),
        ],
        fields=list(span),
    )
    edges = np.append(0, np.cumsum(begins.sum(axis=1)))
    columns = [
        pa.array(np.arange(first, first + n)),
        _lists(np.arange(n + 1) * CONTEXT, pa.array(shard.tokens.ravel(), pa.int32())),
        _lists(edges, spans),
        pa.nulls(n, pa.int64()),
        pa.nulls(n, pa.int32()),
    ]
    fields = [f for f in schema if f.name != "corpus"]
    written = lake.store.write_parquet(
        "sequences",
        pa.table(columns, schema=pa.schema(fields)),
        schema=schema,
        partition={"corpus": CORPUS},
        name=f"{first:010d}-{first + n:010d}",
        statistics=("sequence",),
        compression="zstd",
    )
    lake.publish("sequences", [written], app=f"corpus/{CORPUS}/{number:08d}", version=n)


def _lists(edges: Ints, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(edges, pa.int32()), values)


def _write_capture(lake: Lake, recipe: Recipe) -> None:
    """Write the rows that say what the lake holds, or find that they are there."""
    made_from = json.dumps({"capture": {"shard_tokens": SHARD_TOKENS}, "recipe": asdict(recipe)})
    if rows := lake.rows("captures"):
        if rows[0]["config"] != made_from:
            raise ValueError(f"{lake.root} was made from {rows[0]['config']}, not {made_from}")
        return
    words = [("<begin>", "<end>")[i] if i < _N_SPECIAL else f" w{i}" for i in range(VOCABULARY)]
    vocabulary = [
        {
            "tokenizer": TOKENIZER,
            "token_id": i,
            "text": word,
            "bytes": word.encode(),
            "special": i < _N_SPECIAL,
        }
        for i, word in enumerate(words)
    ]
    lake.upsert("vocabulary", vocabulary, scope={"tokenizer": TOKENIZER})
    hookpoint = {
        **dict.fromkeys(TABLES["hookpoints"].columns),
        "capture": CAPTURE,
        "hookpoint": HOOKPOINT,
        "format": "generated",
        "architecture": "generated",
        "site": "output",
        "module": HOOKPOINT,
        "d_in": 768,
        "n_latents": recipe.latents,
        "bucket_latents": bucket_latents(recipe.latents, None),
        "checks": json.dumps({}),
    }
    lake.upsert("hookpoints", [hookpoint], scope={"capture": CAPTURE})
    capture = {
        **dict.fromkeys(TABLES["captures"].columns),
        "capture": CAPTURE,
        "created_at": now(),
        "model": "generated",
        "tokenizer": TOKENIZER,
        "coder": "generated",
        "corpus": CORPUS,
        "context_tokens": CONTEXT,
        "excluded": list(range(_N_SPECIAL)),
        "value_dtype": "bfloat16",
        "config": made_from,
        "versions": json.dumps({}),
    }
    lake.upsert("captures", [capture], scope={"capture": CAPTURE})


if __name__ == "__main__":
    main()
