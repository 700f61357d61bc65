"""Whether a large lake holds exactly the rows of a dense capture written in another way.

    python benchmarks/exactness.py [--rows 20000000] [--latents 2048] [--k 32]

Builds a GPT-2 and a top-k transcoder on the input of its first block, captures generated tokens to
a lake, and compares every row with a brute-force pass that shares no code with it: the model of
transformers with a hook of torch, one dense float32 product of all hidden states and all latents, a
full sort of every token's latents, rounding to bfloat16 in NumPy.

Float32 sums depend on their order, so that two ways of adding need not agree in the last bit, nor
on which of two latents comes k-th. Here all numbers lie on a grid: hidden states are multiples of
2^-2 up to 1, weights multiples of 2^-4 up to 1/2, so that every partial sum is a multiple of 2^-6
below 2^5; the bias of latent i adds i x 2^-17, which is less than 2^-6. 22 bits hold all of it:
every order of adding gives the exact value, and no two latents of a token are ever equal. `--real`
adds a Llama with attention and arbitrary weights, a tenth as many rows, which may differ by
rounding; each difference is held against the float64 value.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from lakeinterp.capture import capture
from lakeinterp.config import load
from lakeinterp.lake import Lake, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

VOCABULARY, WIDTH, CONTEXT, BATCH, SHARD = 512, 64, 256, 8, 65_536
_EXCESS = 1e-5


class Found(NamedTuple):
    """What a comparison came to."""

    n_rows: int
    n_expected: int
    n_different: int
    """Rows of either side that the other does not have bit by bit."""
    n_at_edge: int
    """Of the different ones: those that the error of a float32 sum explains."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; return 1 if a row differs that must not."""
    given = parsed(arguments)
    wrong = 0
    for kind in ("grid", "real") if given.real else ("grid",):
        n_rows = given.rows if kind == "grid" else given.rows // 10
        n_sequences = -(-n_rows // (given.k * CONTEXT))
        with tempfile.TemporaryDirectory() as folder:
            wrong += run(Path(folder), kind, n_sequences, given)
    return int(wrong > 0)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--latents", type=int, default=2048, help="at most 2048")
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="also a Llama with arbitrary weights")
    return parser.parse_args(arguments)


def run(root: Path, kind: str, n_sequences: int, given: argparse.Namespace) -> int:
    """Capture and compare one model; return the differences that nothing explains."""
    hookpoint = build(root, kind, n_sequences, given)
    lake = Lake(f"{root}/lake")
    start = time.perf_counter()
    done = capture(lake, load(values=settings(root, n_sequences)))
    captured_s = time.perf_counter() - start
    start = time.perf_counter()
    found = compare(lake, done.capture, root, kind, hookpoint, given)
    checked_s = time.perf_counter() - start
    print(f"{kind}: {n_sequences * CONTEXT:,} tokens, {given.latents} latents, k {given.k}")
    print(f"  rows in the lake           {found.n_rows:>12,}  captured in {captured_s:,.0f} s")
    print(f"  rows of the dense capture  {found.n_expected:>12,}  checked in {checked_s:,.0f} s")
    print(f"  different                  {found.n_different:>12,}")
    if kind == "real":
        print(f"  explained by rounding      {found.n_at_edge:>12,}")
    return found.n_different - (found.n_at_edge if kind == "real" else 0)


def build(root: Path, kind: str, n_sequences: int, given: argparse.Namespace) -> str:
    """Write model, tokenizer, coder and token ids; return the hookpoint."""
    generator = torch.Generator().manual_seed(given.seed)
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, "w0"))
    hookpoint, is_grid = ("h.0", True) if kind == "grid" else ("layers.1", False)
    model = grid_model(generator) if is_grid else random_model()
    model.save_pretrained(root / "model")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w0").save_pretrained(
        root / "model"
    )
    shape = (given.latents, WIDTH)
    if is_grid:
        encoder = torch.randint(-8, 9, shape, generator=generator) * 2.0**-4
        bias = torch.arange(given.latents) * 2.0**-17
    else:
        encoder = torch.randn(shape, generator=generator)
        bias = torch.randn(shape[:1], generator=generator) * 0.1
    path = root / "coder" / hookpoint
    path.mkdir(parents=True)
    (path / "cfg.json").write_text(json.dumps({"k": given.k, "transcode": is_grid}))
    weights = {"encoder.weight": encoder, "encoder.bias": bias, "W_dec": encoder.clone()}
    save_file({**weights, "b_dec": torch.zeros(WIDTH)}, path / "sae.safetensors")
    dice = np.random.default_rng(given.seed)
    np.save(root / "ids.npy", dice.integers(1, VOCABULARY, size=(n_sequences, CONTEXT)))
    return hookpoint


def grid_model(generator: torch.Generator) -> GPT2Model:
    """Return a GPT-2 whose embeddings are multiples of 1/4 between -1/2 and 1/2."""
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=WIDTH, n_layer=2, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2Model(config).eval()
    with torch.no_grad():
        for table in (model.wte.weight, model.wpe.weight):
            table.copy_(torch.randint(-2, 3, table.shape, generator=generator) / 4)
    return model


def random_model() -> LlamaModel:
    """Return a Llama as transformers draws its weights."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=160, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=CONTEXT,
        initializer_range=0.2,
    )  # fmt: skip
    return LlamaModel(config).eval()


def settings(root: Path, n_sequences: int) -> dict[str, object]:
    """Return the settings of the capture."""
    return {
        "lake": f"{root}/lake",
        "capture.model": str(root / "model"),
        "capture.coder": str(root / "coder"),
        "capture.n_tokens": n_sequences * CONTEXT,
        "capture.shard_tokens": SHARD,
        "capture.batch_sequences": BATCH,
        "capture.device": "cpu",
        "capture.min_explained_variance": float("-inf"),
        "corpus.dataset": str(root / "ids.npy"),
        "corpus.context_tokens": CONTEXT,
    }


# -- the brute-force side ----------------------------------------------------------------------


def hidden_states(root: Path, kind: str, ids: npt.NDArray[np.int64]) -> torch.Tensor:
    """Return what the coder reads at every token, [tokens, width], by a hook of torch."""
    model = (GPT2Model if kind == "grid" else LlamaModel).from_pretrained(root / "model").eval()
    seen: list[torch.Tensor] = []

    def keep_input(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0])

    def keep_output(_module: object, _inputs: object, output: object) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)  # type: ignore[arg-type]

    if kind == "grid":
        model.h[0].register_forward_pre_hook(keep_input)
    else:
        model.layers[1].register_forward_hook(keep_output)
    with torch.no_grad():
        for first in range(0, len(ids), BATCH):
            model(torch.from_numpy(ids[first : first + BATCH]))
    return torch.cat([states.flatten(0, -2) for states in seen])


def to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Round to nearest, ties to even, by integer arithmetic on the bits."""
    bits = values.view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def compare(
    lake: Lake, capture_id: str, root: Path, kind: str, hookpoint: str, given: argparse.Namespace
) -> Found:
    """Compare the lake with the dense capture, one shard's tokens at a time."""
    from safetensors.numpy import load_file

    weights = load_file(root / "coder" / hookpoint / "sae.safetensors")
    ids = np.load(root / "ids.npy")
    total = np.zeros(4, np.int64)
    n = SHARD // CONTEXT
    for first in range(0, len(ids), n):
        x = hidden_states(root, kind, ids[first : first + n]).numpy()
        held = rows_of(lake, capture_id, first * CONTEXT, first * CONTEXT + len(x))
        total += compare_tokens(x, weights, held, first * CONTEXT, given.k)
    outside = rows_of(lake, capture_id, len(ids) * CONTEXT, 2**62)
    total[[0, 2]] += len(outside[0])
    return Found(*total.tolist())


def rows_of(
    lake: Lake, capture_id: str, first: int, stop: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return token, latent and value of a range of tokens, by (token, latent)."""
    key = f"{where(capture=capture_id)} AND token >= {first} AND token < {stop}"
    with lake.connect(activations=key) as con:
        found = con.sql(
            f"SELECT token, latent, value FROM activations WHERE {key} ORDER BY token, latent"
        ).fetchnumpy()
    return found["token"], found["latent"], found["value"]


def compare_tokens(
    x: npt.NDArray[np.float32],
    weights: dict[str, npt.NDArray[np.float32]],
    held: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]],
    first: int,
    k: int,
) -> npt.NDArray[np.int64]:
    """Return the counts of `Found` for the tokens of one chunk."""
    encoder, bias = weights["encoder.weight"], weights["encoder.bias"]
    n_latents = len(bias)
    counts = np.zeros(4, np.int64)
    for start in range(0, len(x), 4096):
        part = x[start : start + 4096]
        dense = part @ encoder.T + bias
        order = np.argsort(-dense, axis=1, kind="stable")
        kept = np.take_along_axis(dense, order[:, :k], axis=1)
        token, place = (kept > 0).nonzero()
        latent, value = order[token, place], to_bfloat16(kept[token, place])
        expected = (first + start + token) * n_latents + latent
        low, high = np.searchsorted(held[0], [first + start, first + start + len(part)])
        found = held[0][low:high] * n_latents + held[1][low:high]
        sort = np.argsort(expected)
        counts += differences(
            (expected[sort], value[sort]), (found, held[2][low:high]), part, encoder, bias,
            first + start, kept[:, -1],
        )  # fmt: skip
    return counts


def differences(
    expected: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]],
    found: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]],
    x: npt.NDArray[np.float32],
    encoder: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    first: int,
    cut: npt.NDArray[np.float32],
) -> npt.NDArray[np.int64]:
    """Return the counts of `Found`; `cut` holds each token's k-th value."""
    n_latents = len(bias)
    if np.array_equal(expected[0], found[0]) and np.array_equal(
        expected[1].view(np.uint32), found[1].view(np.uint32)
    ):
        return np.array([len(found[0]), len(expected[0]), 0, 0])
    both, here, there = np.intersect1d(expected[0], found[0], return_indices=True)
    same = expected[1][here].view(np.uint32) == found[1][there].view(np.uint32)
    edge = (expected[1][here][~same].astype("f8") + found[1][there][~same]) / 2
    alone = np.setxor1d(expected[0], found[0])
    exact = pre_activations(both[~same], x, encoder, bias, first)
    n_at_edge = int((np.abs(exact - edge) < _EXCESS).sum())
    at_cut = pre_activations(alone, x, encoder, bias, first)
    n_at_edge += int((np.abs(at_cut - cut[alone // n_latents - first]) < _EXCESS).sum())
    n_different = int((~same).sum()) + len(alone)
    return np.array([len(found[0]), len(expected[0]), n_different, n_at_edge])


def pre_activations(
    keys: npt.NDArray[np.int64],
    x: npt.NDArray[np.float32],
    encoder: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    first: int,
) -> npt.NDArray[np.float64]:
    """Return the pre-activations of some (token, latent) in float64."""
    token, latent = keys // len(bias) - first, keys % len(bias)
    summed: npt.NDArray[np.float64] = np.einsum(
        "ij,ij->i", x[token].astype("f8"), encoder[latent].astype("f8")
    )
    return summed + bias[latent]


if __name__ == "__main__":
    raise SystemExit(main())
