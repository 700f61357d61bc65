"""How fast capture is, against the bare model and against a dense capture, in one run.

    python benchmarks/capture.py [--parts speed hookpoints memory bytes] [--tokens 49152]

Builds a random Llama of about 12.5 M parameters and random top-k coders on its blocks 2 and 1 of
6. Parts:

- `speed`: tokens/s of the forward pass to block 2; that with a plain product and `torch.topk`; that
  with this package's encoder; the whole capture to a lake; and a naive dense capture of its own.
- `hookpoints`: what a second hookpoint in the same pass costs, against its encode and write alone.
- `memory`: peak memory above the loaded model after 1, 5 and 20 shards.
- `bytes`: bytes an activation on disk at L0 32 of 16,384 latents, in bfloat16 and float16.

Every variant has a process of its own, so that its memory is its own; the processes take turns and
the best of the rounds counts, so that ratios compare like with like on a machine that is not quiet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from capture_variants import BATCH, CONTEXT, VARIANTS, build, serve

PARTS = {
    "speed": (
        "forward",
        "forward + plain top-k",
        "forward + encode",
        "capture",
        "naive dense capture",
    ),
    "hookpoints": ("capture", "capture of two hookpoints", "encode + write alone"),
    "memory": ("capture of 20 shards",),
    "bytes": ("capture in bfloat16", "capture in float16"),
}


def main() -> None:
    """Run the parts and print their tables; in a child, one variant whenever told to."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        serve(arguments.child, arguments.root, arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build(root, arguments)
        print(
            f"{arguments.tokens:,} tokens, block 2 of 6, {arguments.latents:,} latents, k "
            f"{arguments.k}, batch {BATCH} x {CONTEXT}, {arguments.threads} threads, torch "
            f"{torch.__version__}, best of {arguments.rounds}"
        )
        for part in arguments.parts:
            report(part, in_turns(PARTS[part], root, arguments), arguments.tokens)


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["speed"])
    parser.add_argument("--tokens", type=int, default=49_152)
    parser.add_argument("--latents", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_turns(
    names: tuple[str, ...], root: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Return the best round of each variant; one process a variant, one at a time at work."""
    best: dict[str, dict[str, Any]] = {}
    children = {name: start(name, root, arguments) for name in names}
    try:
        for name, child in children.items():
            answered(name, child)  # loaded
        rounds = 1 if "capture of 20 shards" in names else arguments.rounds
        for _ in range(rounds):
            for name, child in children.items():
                answer = ask(name, child)
                if name not in best or answer["seconds"] < best[name]["seconds"]:
                    best[name] = answer
    finally:
        for child in children.values():
            child.communicate()
    return best


def start(name: str, root: Path, arguments: argparse.Namespace) -> subprocess.Popen[str]:
    """Start the process of one variant."""
    command = [sys.executable, __file__, "--child", name, "--root", str(root)]
    for option in ("tokens", "latents", "k", "threads"):
        command += [f"--{option}", str(getattr(arguments, option))]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def ask(name: str, child: subprocess.Popen[str]) -> dict[str, Any]:
    """Run a variant once in its process."""
    if child.stdin is None:
        raise RuntimeError("a child without a pipe")
    child.stdin.write("run\n")
    answer: dict[str, Any] = json.loads(answered(name, child))
    return answer


def answered(name: str, child: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints."""
    line = child.stdout.readline() if child.stdout else ""
    if not line:
        raise SystemExit(f"{name}: its process ended, see above")
    return line


def report(part: str, best: dict[str, dict[str, Any]], n_tokens: int) -> None:
    """Print a part's table and ratios."""
    print(f"{part}:")
    for name, answer in best.items():
        speed = "" if part == "memory" else f"{n_tokens / answer['seconds']:9,.0f} tokens/s"
        print(f"  {name:26}{speed}  peak {answer['peak']:6,.0f} MiB  {answer['note']}")
    seconds = {name: answer["seconds"] for name, answer in best.items()}
    if part == "speed":
        print(f"  capture / (forward + encode)       {ratio(seconds, 'forward + encode')}")
        print(f"  capture / (forward + plain top-k)  {ratio(seconds, 'forward + plain top-k')}")
        print(f"  capture / naive dense capture      {ratio(seconds, 'naive dense capture')}")
    if part == "hookpoints":
        added = seconds["capture of two hookpoints"] - seconds["capture"]
        alone = seconds["encode + write alone"]
        print(f"  the second hookpoint adds          {added:.2f} s")
        print(f"  encode + write alone               {alone:.2f} s ({added / alone:.2f} times)")


def ratio(seconds: dict[str, float], other: str) -> str:
    """Return how many times as fast as another variant the capture is."""
    return f"{seconds[other] / seconds['capture']:.2f}"


if __name__ == "__main__":
    main()
