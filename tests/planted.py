"""A small lake with planted latents, written without torch, for the tests of every room.

Tokens are words; token 0 is a beginning-of-text mark of no document. Latents:
0 fires on `cat`; 1 fires on any token after `the`; 2 never fires; 3 fires on every token of a
third of the documents; the rest fire at random on about one token in a hundred.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakeinterp.lake import Lake
from lakeinterp.lake.activations import bucket_latents, write_activations
from lakeinterp.lake.schema import TABLES
from lakeinterp.terms import now

WORDS = [
    "<s>",
    *[
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "ran",
        "on",
        "under",
        "mat",
        "house",
        "and",
        "it",
        "said",
        "that",
        "red",
        "blue",
    ],
]
CAT, THE = WORDS.index("cat"), WORDS.index("the")
CAPTURE, HOOKPOINT, CORPUS, TOKENIZER = "planted", "layers.0", "planted-corpus", "words"


@dataclass
class Planted:
    """The lake and the dense truth behind it."""

    lake: Lake
    tokens: np.ndarray
    """Token ids, [sequences, context]."""
    documents: np.ndarray
    """Document of each token, -1 for none; [sequences, context]."""
    dense: np.ndarray
    """Activations, [sequences x context, latents]."""


def planted_lake(
    root: str,
    *,
    n_sequences: int = 200,
    context: int = 64,
    n_latents: int = 12,
    n_buckets: int = 3,
    n_shards: int = 2,
    seed: int = 0,
) -> Planted:
    """Write the lake and return it with its truth."""
    rng = np.random.default_rng(seed)
    lake = Lake(root)
    tokens, documents = _corpus(rng, n_sequences, context)
    dense = _activations(rng, tokens.ravel(), documents.ravel(), n_latents)
    _write_corpus(lake, tokens, documents)
    _write_capture(lake, context, n_latents, n_buckets)
    _write_activations(lake, dense, context, n_latents, n_buckets, n_shards)
    return Planted(lake, tokens, documents, dense)


def _corpus(rng, n_sequences, context):
    tokens = rng.integers(1, len(WORDS), size=(n_sequences, context))
    tokens[:, 0] = 0
    documents = np.full((n_sequences, context), -1, dtype=np.int64)
    document, left = int(rng.integers(0, 2**62)), int(rng.integers(20, 150))
    for s in range(n_sequences):
        for p in range(1, context):
            if left == 0:
                tokens[s, p] = 0
                document, left = int(rng.integers(0, 2**62)), int(rng.integers(20, 150))
                continue
            documents[s, p] = document
            left -= 1
    return tokens, documents


def _activations(rng, tokens, documents, n_latents):
    dense = rng.random((tokens.size, n_latents)) * (rng.random((tokens.size, n_latents)) < 0.01)
    strength = 0.5 + rng.random(tokens.size)
    dense[:, 0] = np.where(tokens == CAT, strength, 0)
    dense[:, 1] = np.where(np.roll(tokens, 1) == THE, strength, 0)
    dense[:, 2] = 0
    dense[:, 3] = np.where(documents % 3 == 0, strength, 0)
    dense[documents < 0] = 0
    dense = dense.astype(np.float32)
    dense.view(np.uint32)[...] &= 0xFFFF0000
    return dense


def spans(documents_of_sequence):
    """Return the `documents` column of one sequence."""
    found = []
    for position, document in enumerate(documents_of_sequence.tolist()):
        value = None if document < 0 else document
        if not found or found[-1]["document"] != value:
            found.append({"document": value, "start": position})
    return found


def _write_corpus(lake, tokens, documents):
    rows = [
        {
            "corpus": CORPUS,
            "sequence": s,
            "tokens": tokens[s].tolist(),
            "documents": spans(d),
            "next_row": None,
            "next_offset": None,
        }
        for s, d in enumerate(documents)
    ]
    lake.upsert("sequences", rows, scope={"corpus": CORPUS})
    vocabulary = [
        {
            "tokenizer": TOKENIZER,
            "token_id": i,
            "text": word if i == 0 else f" {word}",
            "bytes": (word if i == 0 else f" {word}").encode(),
            "special": i == 0,
        }
        for i, word in enumerate(WORDS)
    ]
    lake.upsert("vocabulary", vocabulary, scope={"tokenizer": TOKENIZER})


def _write_capture(lake, context, n_latents, n_buckets):
    blank = {
        **dict.fromkeys(TABLES["captures"].columns),
        "capture": CAPTURE,
        "created_at": now(),
        "model": "planted",
        "tokenizer": TOKENIZER,
        "coder": "planted",
        "corpus": CORPUS,
        "context_tokens": context,
        "excluded": [0],
        "value_dtype": "bfloat16",
        "config": json.dumps({}),
        "versions": json.dumps({}),
    }
    lake.upsert("captures", [blank], scope={"capture": CAPTURE})
    hookpoint = {
        **dict.fromkeys(TABLES["hookpoints"].columns),
        "capture": CAPTURE,
        "hookpoint": HOOKPOINT,
        "format": "planted",
        "architecture": "planted",
        "site": "output",
        "module": HOOKPOINT,
        "d_in": 8,
        "n_latents": n_latents,
        "bucket_latents": bucket_latents(n_latents, n_buckets),
        "checks": json.dumps({}),
    }
    lake.upsert("hookpoints", [hookpoint], scope={"capture": CAPTURE})


def _write_activations(lake, dense, context, n_latents, n_buckets, n_shards):
    step = -(-(len(dense) // context) // n_shards) * context
    for shard, first in enumerate(range(0, len(dense), step)):
        latents, tokens = np.nonzero(dense[first : first + step].T)
        files = write_activations(
            lake.store,
            capture=CAPTURE,
            hookpoint=HOOKPOINT,
            latents_per_bucket=bucket_latents(n_latents, n_buckets),
            latents=latents.astype(np.int32),
            tokens=(tokens + first).astype(np.int64),
            values=dense[first + tokens, latents],
            name=f"shard-{shard:05d}",
        )
        done = min(len(dense), first + step) // context - first // context
        app = f"capture/{CAPTURE}/{shard:06d}"
        lake.publish("activations", files, app=app, version=done)


def table_of(lake: Lake, name: str) -> pa.Table:
    """Return a whole table."""
    with lake.connect() as con:
        return con.sql(f"SELECT * FROM {name}").to_arrow_table()
