"""What encoding adds to a large model's forward pass on a GPU, and how fast its rows are written.

    python benchmarks/gpu.py [--shape 8b] [--latents 16384 65536 131072] [--k 64]
    python benchmarks/gpu.py --device cpu --shape tiny --latents 2048 --k 16 --tokens 2048

Needs torch, pyarrow and this package; downloads nothing. Makes a model of the shape of a Llama with
random bfloat16 weights on the device and random top-k coders on its last layer, and prints
tokens/s of the forward pass, of that and the encoder, the encoder's share, peak device memory, the
encoder's screened way against its dense float32 way (and where they chose otherwise), and rows/s of
sorting and of writing to a lake.

Shapes: B sequences, T tokens of one, N = B T, D width, H heads, G heads of keys, E width of a head.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from lakeinterp.capture.rows import ShardBuffer
from lakeinterp.coders.activations import TopK
from lakeinterp.coders.base import CoderSpec
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.lake import Lake
from lakeinterp.lake.activations import bucket_latents, write_activations

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CONTEXT, VOCABULARY = 256, 32_000
CHUNK_BYTES = 256 * 2**20
"""The default of `capture.encode_chunk_bytes`."""


@dataclass(frozen=True)
class Shape:
    """Size of a model."""

    n_layers: int
    width: int
    inner: int
    n_heads: int
    n_groups: int


SHAPES = {
    "tiny": Shape(2, 256, 704, 4, 2),
    "1b": Shape(16, 2048, 8192, 32, 8),
    "8b": Shape(32, 4096, 14_336, 32, 8),
}


class Layer:
    """One layer of a Llama without the turning of positions, which costs next to nothing."""

    def __init__(self, shape: Shape, make: Callable[[int, int], Tensor]) -> None:
        self._shape, width = shape, shape.width
        self._group_width = width // shape.n_heads * shape.n_groups
        self._query, self._out = make(width, width), make(width, width)
        self._key, self._value = make(self._group_width, width), make(self._group_width, width)
        self._gate, self._up = make(shape.inner, width), make(shape.inner, width)
        self._down = make(width, shape.inner)

    def __call__(self, x_BTD: Tensor) -> Tensor:
        """Return the residual stream after this layer."""
        x_BTD = x_BTD + self._attention(_norm(x_BTD))
        y_BTD = _norm(x_BTD)
        gate = functional.silu(functional.linear(y_BTD, self._gate))
        return x_BTD + functional.linear(gate * functional.linear(y_BTD, self._up), self._down)

    def _attention(self, x_BTD: Tensor) -> Tensor:
        n_heads, n_groups = self._shape.n_heads, self._shape.n_groups
        size = (*x_BTD.shape[:2], -1, self._shape.width // n_heads)
        query_BHTE = functional.linear(x_BTD, self._query).view(size).transpose(1, 2)
        key_BGTE = functional.linear(x_BTD, self._key).view(size).transpose(1, 2)
        value_BGTE = functional.linear(x_BTD, self._value).view(size).transpose(1, 2)
        key_BHTE = key_BGTE.repeat_interleave(n_heads // n_groups, 1)
        value_BHTE = value_BGTE.repeat_interleave(n_heads // n_groups, 1)
        mixed_BHTE = functional.scaled_dot_product_attention(
            query_BHTE, key_BHTE, value_BHTE, is_causal=True
        )
        return functional.linear(mixed_BHTE.transpose(1, 2).flatten(2), self._out)


class Model:
    """Embedding and layers, bfloat16, random."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        generator = torch.Generator(device).manual_seed(0)

        def make(n_rows: int, n_columns: int) -> Tensor:
            drawn = torch.randn(
                n_rows, n_columns, generator=generator, device=device, dtype=torch.bfloat16
            )
            return drawn.mul_(n_columns**-0.5)

        self._embedding = make(VOCABULARY, shape.width)
        self._layers = [Layer(shape, make) for _ in range(shape.n_layers)]

    def __call__(self, tokens_BT: Tensor) -> Tensor:
        """Return the last layer's hidden states, [N, D]."""
        x_BTD = self._embedding[tokens_BT]
        for layer in self._layers:
            x_BTD = layer(x_BTD)
        return x_BTD.flatten(0, 1)


def _norm(x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], eps=1e-5)


def main() -> None:
    """Print the tables."""
    arguments = parsed()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here: run with --device cpu --shape tiny --latents 2048 --k 16")
    shape = SHAPES[arguments.shape]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(
        f"{name}, torch {torch.__version__}: {arguments.shape} ({shape.n_layers} layers of "
        f"{shape.width}), {arguments.tokens:,} tokens in batches of {arguments.batch} x {CONTEXT}, "
        f"k {arguments.k}, best of {arguments.rounds}"
    )
    generator = torch.Generator().manual_seed(1)
    size = (arguments.tokens // CONTEXT, CONTEXT)
    ids = torch.randint(0, VOCABULARY, size, generator=generator).to(device)
    batches = ids.split(arguments.batch)
    with torch.no_grad():
        model = Model(shape, device)
        seconds = best(lambda: [model(tokens_BT) for tokens_BT in batches], device, arguments)
        print(f"  forward              {arguments.tokens / seconds:12,.0f} tokens/s")
        for n_latents in arguments.latents:
            one_coder(model, batches, n_latents, seconds, arguments)


def parsed() -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--latents", type=int, nargs="+", default=[16_384, 65_536, 131_072])
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--batch", type=int, default=8, help="sequences of one forward pass")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def best(work: Callable[[], object], device: torch.device, arguments: argparse.Namespace) -> float:
    """Return the seconds of the best round, after one that does not count."""
    found = float("inf")
    for index in range(arguments.rounds + 1):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        if index:
            found = min(found, time.perf_counter() - start)
    return found


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def one_coder(
    model: Model,
    batches: tuple[Tensor, ...],
    n_latents: int,
    forward: float,
    arguments: argparse.Namespace,
) -> None:
    """Measure one coder on the model's last layer."""
    device, n_tokens = batches[0].device, sum(batch.numel() for batch in batches)
    states_ND = model(batches[0])
    coder = random_coder(states_ND.shape[1], n_latents, arguments.k, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    both = best(lambda: [coder.encode(model(b)) for b in batches], device, arguments)
    print(f"  {n_latents:,} latents")
    print(f"    forward + encode   {n_tokens / both:12,.0f} tokens/s")
    print(f"    encode's share     {1 - forward / both:12.2f}")
    if device.type == "cuda":
        print(f"    peak device memory {torch.cuda.max_memory_allocated(device) / 2**30:12.2f} GiB")
    ways(coder, states_ND, arguments)
    rows_per_second(coder, states_ND, n_tokens // len(states_ND))


def random_coder(width: int, n_latents: int, k: int, device: torch.device) -> LinearCoder:
    """Return a top-k coder of unit directions, float32."""
    generator = torch.Generator(device).manual_seed(2)
    encoder_LD = torch.randn(n_latents, width, generator=generator, device=device)
    encoder_LD = functional.normalize(encoder_LD)
    spec = CoderSpec(
        hookpoint="layers.last", format="random", architecture="topk-sae", module="layers.last",
        site="output", d_in=width, n_latents=n_latents, k=k,
    )  # fmt: skip
    weights = Weights(
        encoder_LD=encoder_LD, bias_L=encoder_LD.new_zeros(n_latents), decoder_LO=encoder_LD,
        b_dec_O=encoder_LD.new_zeros(width),
    )  # fmt: skip
    return LinearCoder(spec, weights, TopK(k), chunk_bytes=CHUNK_BYTES)


def ways(coder: LinearCoder, x_ND: Tensor, arguments: argparse.Namespace) -> None:
    """Time the encoder's two ways on one batch and compare what they choose."""
    device, n_latents = x_ND.device, coder.spec.n_latents
    screen, coder._screen = coder._screen, None
    dense = coder.encode(x_ND)
    spent = best(lambda: coder.encode(x_ND), device, arguments)
    print(f"    dense float32      {len(x_ND) / spent:12,.0f} tokens/s, the encoder alone")
    if screen is None:
        print("    screened           does not pay on this device")
        return
    coder._screen = screen
    screened = coder.encode(x_ND)
    spent = best(lambda: coder.encode(x_ND), device, arguments)
    places = torch.cat([a.token_M * n_latents + a.latent_M for a in (dense, screened)])
    differ = int((places.unique(return_counts=True)[1] == 1).sum())
    note = ", GIVEN UP" if coder._screen is None or screen.is_given_up else ""
    print(
        f"    screened           {len(x_ND) / spent:12,.0f} tokens/s, the encoder alone; "
        f"{differ} of {len(dense.value_M):,} activations chosen otherwise{note}"
    )


def rows_per_second(coder: LinearCoder, x_ND: Tensor, n_batches: int) -> None:
    """Time gathering, sorting and writing a shard to a lake in a temporary folder."""
    spec, device = coder.spec, x_ND.device
    buffer, active = ShardBuffer(spec.hookpoint, torch.bfloat16), coder.encode(x_ND)
    synchronize(device)
    marks = [time.perf_counter()]
    for index in range(n_batches):
        buffer.add(active, active.token_M + index * len(x_ND), CONTEXT)
    marks.append(time.perf_counter())
    rows = buffer.sorted()
    marks.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        written = write_activations(
            Lake(folder).store, capture="gpu", hookpoint=spec.hookpoint,
            latents_per_bucket=bucket_latents(spec.n_latents, None), latents=rows.latents,
            tokens=rows.tokens, values=rows.values, name="shard",
        )  # fmt: skip
    marks.append(time.perf_counter())
    n_rows, n_bytes = len(rows.latents), sum(file.n_bytes for file in written)
    for name, first, last in zip(("to the host", "sort", "write"), marks, marks[1:], strict=False):
        print(f"    {name:18} {n_rows / (last - first):12,.0f} rows/s")
    print(f"    on disk            {n_bytes / n_rows:12.2f} bytes a row, {n_rows:,} rows")


if __name__ == "__main__":
    main()
