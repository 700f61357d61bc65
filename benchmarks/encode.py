"""Where an encode's time goes, and every way to the top k that was tried, side by side.

    python benchmarks/encode.py [--tokens 2048] [--width 384] [--latents 8192] [--k 32]

Prints milliseconds for one batch of tokens: the product alone, the selection alone from a dense
product, and whole encodes. A selection that does not give a top k of every row is marked WRONG.

Shapes: N tokens, D width, L latents, K kept, B blocks.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from lakeinterp.coders import topk
from lakeinterp.coders.activations import Above, TopK
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.coders.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from lakeinterp.coders.activations import Activation

    Selection = Callable[[Tensor, int], Tensor]

CHUNK_BYTES = 256 * 2**20
"""The default of `capture.encode_chunk_bytes`."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--latents", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(arguments.tokens, arguments.width, generator=generator)
    encoder_LD = torch.randn(arguments.latents, arguments.width, generator=generator)
    encoder_LD /= arguments.width**0.5
    bias_L = torch.randn(arguments.latents, generator=generator) * 0.1
    print(
        f"{arguments.tokens:,} tokens x {arguments.width}, {arguments.latents:,} latents, k "
        f"{arguments.k}, {arguments.threads} threads, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}; ms, best of {arguments.rounds}"
    )
    products(x_ND, encoder_LD, bias_L, arguments.rounds)
    selections(torch.addmm(bias_L, x_ND, encoder_LD.T), arguments.k, arguments.rounds)
    encodes(x_ND, encoder_LD, bias_L, arguments)


def show(name: str, work: Callable[[], object], rounds: int, note: str = "") -> None:
    """Print the milliseconds of the best round."""
    work()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    print(f"  {name:52} {best * 1e3:8.1f}  {note}", flush=True)


def products(x_ND: Tensor, encoder_LD: Tensor, bias_L: Tensor, rounds: int) -> None:
    """Time the matrix product in the precisions that a CPU has instructions for."""
    print("product")
    shape = (len(x_ND), len(encoder_LD))
    kept, half = torch.empty(shape), torch.empty(shape, dtype=torch.bfloat16)
    x16, w16 = x_ND.bfloat16(), encoder_LD.bfloat16()
    x8, w8 = (torch.zeros(t.shape, dtype=torch.int8) for t in (x_ND, encoder_LD))
    show("float32, fresh memory", lambda: torch.addmm(bias_L, x_ND, encoder_LD.T), rounds)
    show(
        "float32, memory kept",
        lambda: torch.addmm(bias_L, x_ND, encoder_LD.T, out=kept),
        rounds,
    )
    show("bfloat16, fresh memory", lambda: x16 @ w16.T, rounds)
    show("bfloat16, memory kept", lambda: torch.mm(x16, w16.T, out=half), rounds)
    show("int8", lambda: torch._int_mm(x8, w8.T), rounds)


def selections(pre_NL: Tensor, k: int, rounds: int) -> None:
    """Time and check the ways from pre-activations to a top k."""
    print("selection from a dense float32 product")
    expected = pre_NL.topk(k).values
    for name, select in SELECTIONS.items():
        value_NK = select(pre_NL, k).sort(dim=-1, descending=True).values
        note = "" if torch.equal(value_NK, expected) else "WRONG"
        show(name, partial(select, pre_NL, k), rounds, note)
    mask_NL = pre_NL >= expected.amin()
    print(f"a mask with {int(mask_NL.sum()) / len(pre_NL):.0f} true a token")
    show("nonzero", mask_NL.nonzero, rounds)
    show("nonzero of words of eight", lambda: topk.places(mask_NL), rounds)


def by_torch(pre_NL: Tensor, k: int) -> Tensor:
    """`torch.topk`, unsorted."""
    return pre_NL.topk(k, sorted=False).values


def by_kthvalue(pre_NL: Tensor, k: int) -> Tensor:
    """The k-th largest, then a mask."""
    kth_N1 = pre_NL.kthvalue(pre_NL.shape[1] - k + 1, keepdim=True).values
    return pre_NL[pre_NL >= kth_N1].view(len(pre_NL), k)


def by_argpartition(pre_NL: Tensor, k: int) -> Tensor:
    """`numpy.argpartition`, one thread."""
    pre = pre_NL.numpy()
    place = np.argpartition(pre, pre.shape[1] - k, axis=1)[:, -k:]
    return torch.from_numpy(np.take_along_axis(pre, place, axis=1))


def by_best_blocks(pre_NL: Tensor, k: int) -> Tensor:
    """This package's dense way: the k blocks of the largest maxima, gathered, top k again."""
    return topk.by_blocks(pre_NL, k)[0]


def by_sampled_threshold(pre_NL: Tensor, k: int) -> Tensor:
    """A threshold from every eighth latent that some 2 k pass; rows with fewer done plainly."""
    rank = max(1, 2 * k // 8)
    bound_N1 = pre_NL[:, ::8].topk(rank, sorted=False).values.amin(1, keepdim=True)
    mask_NL = pre_NL >= bound_N1
    flat_M = topk.places(mask_NL)
    token_M = flat_M // pre_NL.shape[1]
    starts = topk.offsets(token_M, len(pre_NL))
    count_N = starts.diff()
    wide = pre_NL.new_full((len(pre_NL), max(k, int(count_N.max()))), -torch.inf)
    wide[token_M, torch.arange(len(flat_M)) - starts[token_M]] = pre_NL.view(-1)[flat_M]
    value_NK = wide.topk(k, sorted=False).values
    short = count_N < k
    value_NK[short] = pre_NL[short].topk(k, sorted=False).values
    return value_NK


def by_block_bound(pre_NL: Tensor, k: int) -> Tensor:
    """What reaches the k-th largest block maximum holds a top k: top k of that short list."""
    size = topk.block_size(pre_NL.shape[1], k)
    max_NB = topk.block_max(pre_NL, size)
    bound_N1 = max_NB.topk(k, sorted=False).values.amin(1, keepdim=True)
    flat_M = topk.places(pre_NL >= bound_N1)
    token_M = flat_M // pre_NL.shape[1]
    latent_M = flat_M - token_M * pre_NL.shape[1]
    found = topk.Candidates(token_M, latent_M, pre_NL.view(-1)[flat_M], len(pre_NL))
    return topk.largest(found, k).value_M.view(len(pre_NL), k)


SELECTIONS: dict[str, Selection] = {
    "torch.topk, unsorted": by_torch,
    "torch.kthvalue and a mask": by_kthvalue,
    "numpy.argpartition": by_argpartition,
    "k best blocks, gathered, torch.topk (dense way)": by_best_blocks,
    "threshold from a sample of the row": by_sampled_threshold,
    "bound from block maxima, one comparison": by_block_bound,
}


def encodes(
    x_ND: Tensor, encoder_LD: Tensor, bias_L: Tensor, arguments: argparse.Namespace
) -> None:
    """Time whole encodes: as anyone writes them, this package's dense way, and screened."""
    k, rounds = arguments.k, arguments.rounds
    floor = float(torch.addmm(bias_L, x_ND[:64], encoder_LD.T).topk(k).values[:, -1].mean())
    print("whole encode")

    def plain() -> object:
        return torch.addmm(bias_L, x_ND, encoder_LD.T).topk(k, sorted=False)

    def plain_above() -> object:
        pre_NL = torch.addmm(bias_L, x_ND, encoder_LD.T)
        mask_NL = pre_NL > floor
        return mask_NL.nonzero(), pre_NL[mask_NL]

    show("top k: product and torch.topk", plain, rounds)
    both_ways("top k", TopK(k), x_ND, encoder_LD, bias_L, rounds)
    show(f"above {floor:.2f}: product and nonzero", plain_above, rounds)
    both_ways("above", Above(floor), x_ND, encoder_LD, bias_L, rounds)
    screen = Screen(encoder_LD, bias_L, TopK(k))

    def in_parts(parts: tuple[Tensor, ...]) -> Callable[[], object]:
        return lambda: [screen(x_CD) for x_CD in parts]

    for step in (64, 128, 256, 512, 1024, 2048):
        if step <= len(x_ND):
            show(f"top k, screened, {step} tokens at a time", in_parts(x_ND.split(step)), rounds)


def both_ways(
    name: str,
    activation: Activation,
    x_ND: Tensor,
    encoder_LD: Tensor,
    bias_L: Tensor,
    rounds: int,
) -> None:
    """Time the dense and the screened way and compare what they find."""
    n_latents, width = encoder_LD.shape
    spec = CoderSpec(
        hookpoint="h", format="none", architecture="topk-sae", module="h", site="output",
        d_in=width, n_latents=n_latents, k=None,
    )  # fmt: skip
    weights = Weights(
        encoder_LD=encoder_LD, bias_L=bias_L, decoder_LO=encoder_LD, b_dec_O=torch.zeros(width)
    )
    coder = LinearCoder(spec, weights, activation, chunk_bytes=CHUNK_BYTES)
    screen, coder._screen = coder._screen, None
    dense = coder.encode(x_ND)
    show(f"{name}: dense way", lambda: coder.encode(x_ND), rounds)
    if screen is None:
        print(f"  {name}: screening does not pay here")
        return
    coder._screen = screen
    places = [a.token_M * n_latents + a.latent_M for a in (dense, coder.encode(x_ND))]
    differ = int((torch.cat(places).unique(return_counts=True)[1] == 1).sum())
    note = f"{len(places[0]):,} activations, {differ} chosen otherwise"
    show(f"{name}: screened", lambda: coder.encode(x_ND), rounds, note)


if __name__ == "__main__":
    main()
