"""What `benchmarks/capture.py` times: a small model, random coders, and the ways to capture them.

Each variant is a function that loads what it needs and returns a function to be timed.

Shapes: B sequences, T tokens of one, N = B T, D width, L latents, M activations.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast
from transformers.utils import logging

from lakeinterp.capture import capture
from lakeinterp.capture.model import SubjectModel
from lakeinterp.capture.rows import ShardBuffer
from lakeinterp.coders import find
from lakeinterp.config import load
from lakeinterp.lake import Lake
from lakeinterp.lake.activations import bucket_latents, write_activations

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

VOCABULARY, WIDTH, CONTEXT, BATCH = 8192, 384, 256, 8
HOOKPOINT, SECOND = "layers.2", "layers.1"
SHARD = 16_384


class Measured(NamedTuple):
    """One variant, run once."""

    seconds: float
    """For all the tokens, without what is paid once: loading and the check of the coder."""
    note: str = ""


def build(root: Path, arguments: argparse.Namespace) -> None:
    """Write model, tokenizer, coders and ready token ids."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=896, num_hidden_layers=6,
        num_attention_heads=6, num_key_value_heads=6, max_position_embeddings=CONTEXT,
    )  # fmt: skip
    logging.disable_progress_bar()
    LlamaModel(config).save_pretrained(root / "model")
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0").save_pretrained(
        root / "model"
    )
    for name, n_latents, k in (("coder", arguments.latents, arguments.k), ("wide", 16_384, 32)):
        for seed, hookpoint in enumerate((HOOKPOINT, SECOND)):
            write_coder(root / name / hookpoint, n_latents, k, seed)
    n = max(arguments.tokens, 20 * SHARD) // CONTEXT
    ids = np.random.default_rng(0).integers(1, VOCABULARY, size=(n, CONTEXT))
    np.save(root / "ids.npy", ids)


def write_coder(path: Path, n_latents: int, k: int, seed: int) -> None:
    """Write a random top-k coder in the layout of sparsify."""
    generator = torch.Generator().manual_seed(seed)
    encoder = torch.randn(n_latents, WIDTH, generator=generator) / WIDTH**0.5
    path.mkdir(parents=True)
    (path / "cfg.json").write_text(json.dumps({"k": k, "activation": "topk"}))
    weights = {
        "encoder.weight": encoder,
        "encoder.bias": torch.zeros(n_latents),
        "W_dec": encoder.clone(),
        "b_dec": torch.zeros(WIDTH),
    }
    save_file(weights, path / "sae.safetensors")


def settings(root: Path, n_tokens: int, **changed: Any) -> dict[str, Any]:
    """Return the settings of a capture, `changed` among those of the section."""
    section = {
        "model": str(root / "model"),
        "coder": str(root / "coder"),
        "hookpoints": [HOOKPOINT],
        "n_tokens": n_tokens,
        "shard_tokens": SHARD,
        "batch_sequences": BATCH,
        "device": "cpu",
        "min_explained_variance": float("-inf"),
        **changed,
    }
    values = {f"capture.{name}": value for name, value in section.items()}
    return {"lake": "unused", "corpus.dataset": str(root / "ids.npy"), **values}


class Setting:
    """A loaded model, coder and batches."""

    def __init__(self, root: Path, n_tokens: int) -> None:
        config = load(values=settings(root, CONTEXT)).capture
        self.model = SubjectModel(config)
        folder = find(config.coder, config.hookpoints)
        self.spec = folder.specs[0]
        self.coder = folder.load(self.spec, "cpu", config.encode_chunk_bytes)
        ids = torch.from_numpy(np.load(root / "ids.npy")[: n_tokens // CONTEXT])
        self.batches = ids.split(BATCH)
        self.reads = self.model.in_order([self.model.resolve(self.spec)], ids[:1])
        self.coder.encode(self.hidden(self.batches[0]))

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Return the hidden states, [N, D]."""
        return self.model.hidden(tokens_BT, self.reads)[self.reads[0]].flatten(0, 1)

    def timed(self, work: Callable[[Tensor], object]) -> Measured:
        """Do something with the hidden states of every batch."""
        start = time.perf_counter()
        for tokens_BT in self.batches:
            work(self.hidden(tokens_BT))
        return Measured(time.perf_counter() - start)


def forward(root: Path, arguments: argparse.Namespace) -> Callable[[], Measured]:
    """The model to the hooked layer; the states are dropped."""
    made = Setting(root, arguments.tokens)
    return lambda: made.timed(lambda _: None)


def forward_and_encode(root: Path, arguments: argparse.Namespace) -> Callable[[], Measured]:
    """The same, every state encoded by this package and dropped."""
    made = Setting(root, arguments.tokens)
    return lambda: made.timed(made.coder.encode)


def forward_and_plain(root: Path, arguments: argparse.Namespace) -> Callable[[], Measured]:
    """The same with one dense product and `torch.topk`, as anyone would write it."""
    made, plain = Setting(root, arguments.tokens), PlainCoder(root)
    return lambda: made.timed(plain.top)


class PlainCoder:
    """The coder of a folder, read and encoded without this package."""

    def __init__(self, root: Path) -> None:
        folder = root / "coder" / HOOKPOINT
        self.k = int(json.loads((folder / "cfg.json").read_text())["k"])
        self.weights = load_file(folder / "sae.safetensors")

    def top(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k largest activations of each token and their latents."""
        found = self.weights
        pre_NL = torch.nn.functional.linear(
            x_ND - found["b_dec"], found["encoder.weight"], found["encoder.bias"]
        )
        top = pre_NL.relu().topk(self.k, sorted=False)
        return top.values, top.indices


def whole_capture(
    root: Path, arguments: argparse.Namespace, **changed: Any
) -> Callable[[], Measured]:
    """The whole capture to a lake, without what is paid once: loading and the check."""

    def run() -> Measured:
        with tempfile.TemporaryDirectory() as lake:
            started: list[float] = []

            def progress(*, tokens: int = 0, **_: int) -> None:
                if tokens and not started:
                    started.append(time.perf_counter())

            config = load(values=settings(root, arguments.tokens, **changed))
            done = capture(Lake(lake), config, progress=progress)
            spent = time.perf_counter() - started[0]
            share = 1 - BATCH * CONTEXT / done.n_tokens
            note = f"{done.n_bytes / done.n_rows:.2f} bytes a row, {done.n_rows:,} rows"
            return Measured(spent / share, note)

    return run


def two_hookpoints(root: Path, arguments: argparse.Namespace) -> Callable[[], Measured]:
    """The same with a hookpoint on the block before as well: the forward pass is the same."""
    return whole_capture(root, arguments, hookpoints=[SECOND, HOOKPOINT])


def in_dtype(dtype: str) -> Callable[..., Any]:
    """Return a capture of the wide coder, values rounded to a type."""

    def prepare(root: Path, arguments: argparse.Namespace) -> Callable[[], Measured]:
        return whole_capture(root, arguments, coder=str(root / "wide"), value_dtype=dtype)

    return prepare


def encode_and_write(root: Path, arguments: argparse.Namespace) -> Callable[[], Measured]:
    """Encode, gather, sort and write one hookpoint's states; no model runs in the time."""
    made = Setting(root, arguments.tokens)
    spec, context = made.spec, CONTEXT
    states = [made.hidden(tokens_BT) for tokens_BT in made.batches[:8]]

    def shard(lake: Lake, first: int, n_batches: int) -> None:
        buffer = ShardBuffer(spec.hookpoint, torch.bfloat16)
        for index in range(n_batches):
            x_ND = states[(first + index) % len(states)]
            active = made.coder.encode(x_ND)
            token_M = active.token_M + (first + index) * len(x_ND)
            buffer.add(active, token_M, context)
        rows = buffer.sorted()
        write_activations(
            lake.store, capture="x", hookpoint=spec.hookpoint,
            latents_per_bucket=bucket_latents(spec.n_latents, None), latents=rows.latents,
            tokens=rows.tokens, values=rows.values, name=f"{first:010d}",
        )  # fmt: skip

    def run() -> Measured:
        with tempfile.TemporaryDirectory() as folder:
            lake, step = Lake(folder), SHARD // (BATCH * CONTEXT)
            start = time.perf_counter()
            for first in range(0, len(made.batches), step):
                shard(lake, first, min(step, len(made.batches) - first))
            return Measured(time.perf_counter() - start)

    return run


def dense_capture(root: Path, arguments: argparse.Namespace) -> Callable[[], Measured]:
    """Dense codes of the whole model's states, kept in memory and saved at the end.

    What a capture does that was written for small runs: forward hooks set for each batch, all
    layers run, the top k scattered to [B, T, L], the mask of what is not zero made twice, places
    in int64, firing counts from the dense code, everything joined at the end and saved as five
    ranges of latents with the tokens in each.
    """
    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(root / "model").eval().requires_grad_(False)
    ids = torch.from_numpy(np.load(root / "ids.npy")[: arguments.tokens // CONTEXT])
    plain = PlainCoder(root)

    def run() -> Measured:
        start = time.perf_counter()
        cache = DenseCache(arguments.latents)
        for index, tokens_BT in enumerate(ids.split(BATCH)):
            cache.add(index, tokens_BT, dense_code(model, plain, tokens_BT, arguments.latents))
        n_bytes, n_rows = cache.save(root / f"dense-{os.getpid()}")
        return Measured(
            time.perf_counter() - start, f"{n_bytes / n_rows:.2f} bytes a row, {n_rows:,} rows"
        )

    return run


def dense_code(model: Any, plain: PlainCoder, tokens_BT: Tensor, n_latents: int) -> Tensor:
    """Return the code of one batch, [B, T, L], by a hook on one block of the whole model."""
    kept: list[Tensor] = []

    def keep(_: object, __: object, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    hook = model.get_submodule(HOOKPOINT).register_forward_hook(keep)
    try:
        with torch.no_grad():
            model(tokens_BT)
    finally:
        hook.remove()
    value_NK, latent_NK = plain.top(kept[0].flatten(0, 1))
    dense_NL = value_NK.new_zeros(len(value_NK), n_latents).scatter_(-1, latent_NK, value_NK)
    return dense_NL.view(*tokens_BT.shape, n_latents)


class DenseCache:
    """Everything in memory until the end."""

    N_SPLITS = 5

    def __init__(self, n_latents: int) -> None:
        self._n_latents = n_latents
        self._places: list[Tensor] = []
        self._values: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._counts_L = torch.zeros(n_latents, dtype=torch.int64)

    def add(self, index: int, tokens_BT: Tensor, code_BTL: Tensor) -> None:
        """Keep what is not zero of one batch."""
        places = torch.nonzero(code_BTL.abs() > 1e-5)
        values = code_BTL[code_BTL.abs() > 1e-5]
        places[:, 0] += index * BATCH
        self._places.append(places.cpu())
        self._values.append(values.cpu())
        self._tokens.append(tokens_BT.cpu())
        self._counts_L += (code_BTL > 0).sum((0, 1))

    def save(self, folder: Path) -> tuple[int, int]:
        """Join, split by latent and save; return bytes and rows."""
        folder.mkdir(exist_ok=True)
        places, values = torch.cat(self._places), torch.cat(self._values)
        tokens = torch.cat(self._tokens)
        edges = torch.linspace(0, self._n_latents, self.N_SPLITS + 1).long()
        n_bytes = 0
        for first, stop in pairwise(edges.tolist()):
            mask = (places[:, 2] >= first) & (places[:, 2] < stop)
            part, path = places[mask].clone(), folder / f"{first}_{stop - 1}.safetensors"
            part[:, 2] -= first
            kind = torch.uint16 if int(part.max()) < 2**16 else torch.uint32
            held = {"locations": part.to(kind), "activations": values[mask].half()}
            save_file({**held, "tokens": tokens}, path)
            n_bytes += path.stat().st_size
        return n_bytes, len(values)


def flat_memory(root: Path, _: argparse.Namespace) -> Callable[[], Measured]:
    """Capture 20 small shards; note the peak after 1, 5 and 20, less what was resident before."""

    def run() -> Measured:
        with tempfile.TemporaryDirectory() as lake:
            peaks: dict[int, float] = {}
            n_shards, before = 0, 0.0

            def progress(*, total: int = 0, rows: int = 0, **_: int) -> None:
                nonlocal n_shards, before
                if total:
                    before = resident_mib()
                if rows:
                    n_shards += 1
                    peaks[n_shards] = peak_mib() - before

            n_tokens = 20 * SHARD
            config = load(values=settings(root, n_tokens))
            start = time.perf_counter()
            capture(Lake(lake), config, progress=progress)
            shown = "  ".join(f"{n}: {peaks[n]:,.0f} MiB" for n in (1, 5, 20))
            return Measured(time.perf_counter() - start, f"peak above the model by shards  {shown}")

    return run


VARIANTS: dict[str, Callable[..., Callable[[], Measured]]] = {
    "forward": forward,
    "forward + plain top-k": forward_and_plain,
    "forward + encode": forward_and_encode,
    "capture": whole_capture,
    "naive dense capture": dense_capture,
    "capture of two hookpoints": two_hookpoints,
    "encode + write alone": encode_and_write,
    "capture of 20 shards": flat_memory,
    "capture in bfloat16": in_dtype("bfloat16"),
    "capture in float16": in_dtype("float16"),
}


def serve(name: str, root: Path, arguments: argparse.Namespace) -> None:
    """Say when loaded; run one variant for each line that is read, answer with one of JSON."""
    run = VARIANTS[name](root, arguments)
    print("ready", flush=True)
    for _ in sys.stdin:
        measured = run()
        print(json.dumps({**measured._asdict(), "peak": peak_mib()}), flush=True)


def resident_mib() -> float:
    """Return what this process holds now."""
    return _status("VmRSS")


def peak_mib() -> float:
    """Return the most this process has held."""
    return _status("VmHWM")


def _status(field: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux: the peak, in bytes on a Mac
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
