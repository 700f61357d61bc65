"""How fast capture is, against the bare model and against a dense capture, in one run.

    python benchmarks/capture.py [--tokens 131072] [--latents 8192] [--k 32]

Builds a random Llama of about 12.5 M parameters and a random top-k coder on block 2 of 6, and
prints tokens/s of: the forward pass to the hooked layer; that and the encoder; the whole capture
to a lake; and a naive dense capture, which scatters every code to [tokens, latents], looks for
what is not zero and keeps it all until the end. Each is run in turn and the best of the rounds
counts, so that the ratios compare like with like on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from lakeinterp.capture import capture
from lakeinterp.capture.model import SubjectModel
from lakeinterp.coders import find
from lakeinterp.config import load
from lakeinterp.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable

VOCABULARY, WIDTH, CONTEXT, BATCH, HOOKPOINT = 8192, 384, 256, 8, "layers.2"


def main() -> None:
    """Run every variant and print the table."""
    arguments = parsed()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build(root, arguments)
        variants = {
            "forward": forward_only,
            "forward + encode": forward_and_encode,
            "capture to a lake": whole_capture,
            "naive dense capture": dense_capture,
        }
        seconds = {name: float("inf") for name in variants}
        notes: dict[str, str] = {}
        for _ in range(arguments.rounds):
            for name, variant in variants.items():
                spent, notes[name] = variant(root, arguments)
                seconds[name] = min(seconds[name], spent)
    report(arguments, seconds, notes)


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--latents", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


def build(root: Path, arguments: argparse.Namespace) -> None:
    """Write model, tokenizer, coder and ready token ids."""
    generator = torch.Generator().manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=896, num_hidden_layers=6,
        num_attention_heads=6, num_key_value_heads=6, max_position_embeddings=CONTEXT,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(root / "model")
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0").save_pretrained(
        root / "model"
    )
    encoder = torch.randn(arguments.latents, WIDTH, generator=generator) / WIDTH**0.5
    path = root / "coder" / HOOKPOINT
    path.mkdir(parents=True)
    (path / "cfg.json").write_text(json.dumps({"k": arguments.k, "activation": "topk"}))
    weights = {
        "encoder.weight": encoder,
        "encoder.bias": torch.zeros(arguments.latents),
        "W_dec": encoder.clone(),
        "b_dec": torch.zeros(WIDTH),
    }
    save_file(weights, path / "sae.safetensors")
    ids = np.random.default_rng(0).integers(
        1, VOCABULARY, size=(arguments.tokens // CONTEXT, CONTEXT)
    )
    np.save(root / "ids.npy", ids)


def settings(root: Path, lake: str, n_tokens: int) -> dict[str, object]:
    """Return the settings of the capture."""
    return {
        "lake": lake,
        "capture.model": str(root / "model"),
        "capture.coder": str(root / "coder"),
        "capture.n_tokens": n_tokens,
        "capture.shard_tokens": 65_536,
        "capture.batch_sequences": BATCH,
        "capture.device": "cpu",
        "capture.min_explained_variance": float("-inf"),
        "corpus.dataset": str(root / "ids.npy"),
    }


class Setting:
    """A loaded model, coder and batches."""

    def __init__(self, root: Path) -> None:
        config = load(values=settings(root, "", CONTEXT)).capture
        self.model = SubjectModel(config)
        folder = find(config.coder)
        self.coder = folder.load(folder.specs[0], "cpu", config.encode_chunk_bytes)
        ids = torch.from_numpy(np.load(root / "ids.npy"))
        self.batches = ids.split(BATCH)
        self.reads = self.model.in_order([self.model.resolve(folder.specs[0])], ids[:1])
        self.model.hidden(self.batches[0], self.reads)

    def hidden(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Return the hidden states, [B, T, D]."""
        return self.model.hidden(tokens_BT, self.reads)[self.reads[0]]


def timed(work: Callable[[], str]) -> tuple[float, str]:
    """Return the seconds that some work took, and its note."""
    start = time.perf_counter()
    note = work()
    return time.perf_counter() - start, note


def forward_only(root: Path, _: argparse.Namespace) -> tuple[float, str]:
    """Run the model to the hooked layer and drop the states."""
    made = Setting(root)

    def work() -> str:
        for tokens_BT in made.batches:
            made.hidden(tokens_BT)
        return ""

    return timed(work)


def forward_and_encode(root: Path, _: argparse.Namespace) -> tuple[float, str]:
    """The same, every state encoded and dropped."""
    made = Setting(root)

    def work() -> str:
        for tokens_BT in made.batches:
            made.coder.encode(made.hidden(tokens_BT).flatten(0, 1))
        return ""

    return timed(work)


def whole_capture(root: Path, arguments: argparse.Namespace) -> tuple[float, str]:
    """The whole capture to a lake, without what is paid once: loading and the check."""
    with tempfile.TemporaryDirectory() as lake:
        warm = load(values=settings(root, lake, CONTEXT))
        capture(Lake(lake), warm)
        full = load(values=settings(root, lake, arguments.tokens))
        start: list[float] = []

        def progress(*, tokens: int = 0, total: int = 0, rows: int = 0, n_bytes: int = 0) -> None:
            if not start and tokens:
                start.append(time.perf_counter())

        done = capture(Lake(lake), full, progress=progress)
        spent = time.perf_counter() - start[0]
        share = 1 - BATCH * CONTEXT / done.n_tokens
        return spent / share, f"{done.n_bytes / done.n_rows:.2f} bytes a row"


def dense_capture(root: Path, arguments: argparse.Namespace) -> tuple[float, str]:
    """Scatter to dense, find the non-zeros with int64 places, keep all in memory, save once."""
    made = Setting(root)

    def work() -> str:
        places, values = [], []
        for index, tokens_BT in enumerate(made.batches):
            states = made.hidden(tokens_BT)
            active = made.coder.encode(states.flatten(0, 1))
            dense = torch.zeros(tokens_BT.numel(), arguments.latents)
            dense[active.token_M, active.latent_M.long()] = active.value_M
            dense = dense.view(*tokens_BT.shape, -1)
            kept = dense.abs() > 1e-5
            place = kept.nonzero()
            place[:, 0] += index * BATCH
            places.append(place)
            values.append(dense[kept])
            (dense > 0).sum((0, 1))
        location, value = torch.cat(places), torch.cat(values)
        save_file({"l": location.to(torch.int32), "v": value.half()}, root / "dense.safetensors")
        n_bytes = (root / "dense.safetensors").stat().st_size
        return f"{n_bytes / len(value):.2f} bytes a row"

    return timed(work)


def report(arguments: argparse.Namespace, seconds: dict[str, float], notes: dict[str, str]) -> None:
    """Print the table."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{arguments.tokens:,} tokens, block 2 of 6, {arguments.latents:,} latents, "
        f"k {arguments.k}, batch {BATCH} x {CONTEXT}, {arguments.threads} threads, "
        f"torch {torch.__version__}"
    )
    for name, spent in seconds.items():
        print(f"  {name:22} {arguments.tokens / spent:9,.0f} tokens/s  {notes[name]}")
    encode, lake = seconds["forward + encode"], seconds["capture to a lake"]
    print(f"  capture / (forward + encode)  {encode / lake:.2f}")
    print(f"  capture / naive dense         {seconds['naive dense capture'] / lake:.2f}")
    print(f"  peak memory of the process    {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
