"""What several workers on one machine bring: tokens/s, memory and equal rows with 1, 2 and 4.

    python benchmarks/workers.py [--tokens 131072] [--workers 1,2,4]

Builds a random Llama of about 12.5 M parameters with a random top-k coder on block 2 of 6, and
captures the same tokens with each number of processes on the CPU, which share its cores. The rate
counts from the first batch to the last commit; what starting costs is a column of its own. Memory
is what all processes of the command take together at the worst moment, shared pages counted once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from lakeinterp.capture import capture
from lakeinterp.config import load
from lakeinterp.lake import Lake

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

VOCABULARY, WIDTH, CONTEXT, HOOKPOINT = 8192, 384, 256, "layers.2"
ROWS = "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL"


class Found(NamedTuple):
    """One number of workers."""

    n_workers: int
    n_tokens: int
    start_s: float
    """Until the first batch was done."""
    run_s: float
    peak_bytes: int


class Clock:
    """Notes when the first batch and the last commit were done."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.before = 0
        """Tokens of the first report, which are not in the time that follows."""

    def __call__(self, *, tokens: int = 0, total: int = 0, rows: int = 0, n_bytes: int = 0) -> None:
        """Take note of the time."""
        del total, rows, n_bytes
        if tokens and not self.first:
            self.first, self.before = time.monotonic(), tokens
        self.last = time.monotonic()


def main() -> None:
    """Capture with each number of workers and print the table."""
    arguments = parsed()
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), arguments)
        found = [measured(Path(folder), n, arguments) for n in arguments.workers]
        print_table(found, Path(folder), arguments)


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--shard-tokens", type=int, default=8192)
    parser.add_argument("--latents", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument(
        "--workers", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4]
    )
    return parser.parse_args()


def build(root: Path, arguments: argparse.Namespace) -> None:
    """Write model, tokenizer, coder and ready token ids."""
    torch.set_default_dtype(torch.float32)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=896, num_hidden_layers=6,
        num_attention_heads=6, num_key_value_heads=6, max_position_embeddings=CONTEXT,
    )  # fmt: skip
    model = LlamaModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    model.save_pretrained(root / "model")
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0")
    wrapped.save_pretrained(root / "model")
    encoder = torch.randn(arguments.latents, WIDTH, generator=generator) / WIDTH**0.5
    path = root / "coder" / HOOKPOINT
    path.mkdir(parents=True)
    (path / "cfg.json").write_text(json.dumps({"k": arguments.k, "activation": "topk"}))
    weights = {
        "encoder.weight": encoder, "encoder.bias": torch.zeros(arguments.latents),
        "W_dec": encoder.clone(), "b_dec": torch.zeros(WIDTH),
    }  # fmt: skip
    save_file(weights, path / "sae.safetensors")
    size = (arguments.tokens // CONTEXT, CONTEXT)
    np.save(root / "ids.npy", np.random.default_rng(0).integers(1, VOCABULARY, size=size))


def measured(root: Path, n_workers: int, arguments: argparse.Namespace) -> Found:
    """Capture in a process of its own and watch the memory of all that it starts."""
    context = multiprocessing.get_context("spawn")
    answers: Queue[tuple[int, float, float]] = context.Queue()
    start = time.monotonic()
    process = context.Process(target=_captured, args=(root, n_workers, arguments, answers))
    process.start()
    assert process.pid is not None
    watch = Watch(process.pid)
    n_tokens, first_s, run_s = answers.get()
    process.join()
    return Found(n_workers, n_tokens, first_s - start, run_s, watch.end())


def _captured(
    root: Path, n_workers: int, arguments: argparse.Namespace,
    answers: Queue[tuple[int, float, float]],
) -> None:  # fmt: skip
    values = {
        "lake": str(root / f"lake-{n_workers}"),
        "capture.model": str(root / "model"),
        "capture.coder": str(root / "coder"),
        "capture.n_tokens": arguments.tokens,
        "capture.shard_tokens": arguments.shard_tokens,
        "capture.devices": f"cpu:{n_workers}",
        "capture.min_explained_variance": float("-inf"),
        "corpus.dataset": str(root / "ids.npy"),
    }
    config, clock = load(values=values), Clock()
    done = capture(Lake(config.lake), config, progress=clock)
    answers.put((done.n_tokens - clock.before, clock.first, clock.last - clock.first))


class Watch:
    """Samples the memory of a process and of all below it."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._done = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Stop and return the largest sum that was seen, in bytes."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while not self._done.wait(0.5):
            self._peak = max(self._peak, sum(_resident(pid) for pid in _below(self._pid)))


def _below(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _below(int(child))
    except OSError:
        return found  # it ended meanwhile
    return found


def _resident(pid: int) -> int:
    """Return a process's share of the memory in use: what n share counts 1/n in each."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def print_table(found: list[Found], root: Path, arguments: argparse.Namespace) -> None:
    """Print a line for each number of workers."""
    first = Lake(str(root / f"lake-{found[0].n_workers}")).sql(ROWS).to_arrow_table()
    print(
        f"{arguments.tokens:,} tokens, {arguments.latents:,} latents, k {arguments.k}, shards of "
        f"{arguments.shard_tokens:,}, {len(os.sched_getaffinity(0))} cores, "
        f"torch {torch.__version__}"
    )
    print("| workers | tokens/s | ratio | until the first batch | memory of all | rows as with 1 |")
    print("|--:|--:|--:|--:|--:|---|")
    rate = found[0].n_tokens / found[0].run_s
    for one in found:
        own = one.n_tokens / one.run_s
        rows = Lake(str(root / f"lake-{one.n_workers}")).sql(ROWS).to_arrow_table()
        print(
            f"| {one.n_workers} | {own:,.0f} | {own / rate:.2f} | {one.start_s:.1f} s "
            f"| {one.peak_bytes / 2**20:,.0f} MiB | {compared(first, rows)} |"
        )


def compared(first: object, rows: object) -> str:
    """Say whether two sorted tables of rows are equal, or how many rows are not."""
    import pyarrow as pa

    assert isinstance(first, pa.Table)
    assert isinstance(rows, pa.Table)
    if first.equals(rows):
        return f"all {rows.num_rows:,}"
    own = set(zip(*(column.to_pylist() for column in first.columns), strict=True))
    other = set(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    return f"{len(own ^ other):,} differ of {rows.num_rows:,}"


if __name__ == "__main__":
    main()
