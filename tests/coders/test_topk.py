"""The selection of active latents against brute force, and the screened encode's proof."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp.coders import screen, topk
from lakeinterp.coders.activations import Above, Gated, GroupMax, TopK
from lakeinterp.coders.base import Active, CoderSpec
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.coders.screen import Screen

checked = settings(derandomize=True, deadline=None, max_examples=60)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows_of(active: Active, n: int) -> list[dict[int, float]]:
    """Return latent to value of each token; no latent twice, tokens in order."""
    assert bool((active.token_M.diff() >= 0).all())
    assert active.latent_M.dtype == torch.int32
    rows: list[dict[int, float]] = [{} for _ in range(n)]
    triples = zip(*(part.tolist() for part in active), strict=True)
    for token, latent, value in triples:
        assert latent not in rows[token]
        rows[token][latent] = value
    return rows


def assert_is_a_top_k(found: dict[int, float], row: np.ndarray, k: int) -> None:
    """Any k of the largest will do where values are equal; only positive ones are kept."""
    best = sorted((v for v in row.tolist() if v > 0), reverse=True)[:k]
    assert sorted(found.values(), reverse=True) == best
    assert all(row[latent] == value for latent, value in found.items())


@st.composite
def pre_activations(draw_: st.DrawFn) -> tuple[torch.Tensor, int]:
    n_latents = draw_(st.sampled_from([1, 7, 96, 100, 256, 1024, 2048, 2050, 4096]))
    n_tokens = draw_(st.integers(0, 5))
    k = draw_(st.sampled_from([1, 2, 8, 32, n_latents, n_latents + 3]))
    pre = draw(draw_(st.integers(0, 999)), n_tokens, n_latents)
    kind = draw_(st.sampled_from(["plain", "ties", "negative", "few", "equal", "infinite"]))
    if kind == "ties":
        pre = (pre * 2).round() / 2
    if kind == "negative":
        pre = -pre.abs()
    if kind == "few":
        pre = pre - 2.5
    if kind == "equal":
        pre = torch.ones_like(pre)
    if kind == "infinite":
        pre[:, ::5] = torch.inf
    return pre, k


@checked
@given(pre_activations())
def test_top_k_is_a_top_k_of_every_row(case):
    pre, k = case
    for found, row in zip(rows_of(TopK(k)(pre), len(pre)), pre.numpy(), strict=True):
        assert_is_a_top_k(found, row, k)


@checked
@given(pre_activations(), st.floats(-1, 2))
def test_threshold_keeps_exactly_what_is_above_it_and_positive(case, threshold):
    pre, _ = case
    expected = [{i: v for i, v in enumerate(row) if v > max(threshold, 0)} for row in pre.tolist()]
    assert rows_of(Above(max(threshold, 0))(pre), len(pre)) == expected
    per_latent = torch.full((pre.shape[1],), float(np.float32(threshold)))
    floor = max(float(per_latent[0]), 0)
    expected = [{i: v for i, v in enumerate(row) if v > floor} for row in pre.tolist()]
    assert rows_of(Above(per_latent)(pre), len(pre)) == expected


@pytest.mark.parametrize("n_latents", [100, 4096])
@pytest.mark.parametrize("place", [0, 63, 99])
@pytest.mark.parametrize(
    "activation", [TopK(8), Above(0.5), GroupMax(4), Gated(torch.ones(1), torch.zeros(1))]
)
def test_nan_is_kept_for_the_caller_to_refuse(activation, place, n_latents):
    pre = draw(0, 3, n_latents)
    pre[1, place] = torch.nan
    rows = rows_of(activation(pre), 3)
    assert [any(v != v for v in row.values()) for row in rows] == [False, True, False]


@checked
@given(st.integers(0, 200), st.floats(0, 1), st.integers(0, 99))
def test_places_of_a_mask_are_those_of_nonzero(n, share, seed):
    mask = torch.rand(3, n, generator=torch.Generator().manual_seed(seed)) < share
    assert topk.places(mask).tolist() == mask.flatten().nonzero()[:, 0].tolist()


def an_activation(kind: str, n_latents: int, k: int, seed: int):
    if kind == "topk":
        return TopK(k)
    if kind == "above":
        return Above(draw(seed + 3, n_latents) * 0.5 + 3)
    return Gated(draw(seed + 4, n_latents).abs(), draw(seed + 5, n_latents) * 0.1)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    kind=st.sampled_from(["topk", "above", "gated"]),
    n_latents=st.sampled_from([300, 1000, 2048, 4096]),
    width=st.sampled_from([1, 64, 130, 256]),
    k=st.sampled_from([1, 4, 16]),
    seed=st.integers(0, 99),
    shape=st.sampled_from(["plain", "crowd", "uneven", "twins", "outlier", "large bias"]),
)
def test_screening_misses_nothing_and_rounds_nothing(kind, n_latents, width, k, seed, shape):
    x, encoder = draw(seed, 9, width), draw(seed + 1, n_latents, width) / width**0.5
    bias = draw(seed + 2, n_latents) * 0.1 - (2.3 if kind == "gated" else 0)
    if shape == "uneven":  # norms over a range of a million
        encoder *= 10 ** (6 * torch.rand(n_latents, 1, generator=torch.Generator().manual_seed(1)))
    if shape == "twins":
        encoder[n_latents // 2 : 2 * (n_latents // 2)] = encoder[: n_latents // 2]
        bias[n_latents // 2 : 2 * (n_latents // 2)] = bias[: n_latents // 2]
    if shape == "outlier":
        x[:, 0] += 300
    if shape == "crowd":  # nearer to each other than bfloat16 can tell
        encoder[:60] = x[4] * (4 + draw(seed + 2, 60, width) * 0.01) / width
        bias[:60] = 0
    if shape == "large bias":
        bias[:30] += 1000
    activation = an_activation(kind, n_latents, k, seed)
    active = Screen(encoder, bias, activation)(x)
    if active is None:
        return  # left to the dense way; how often is another test
    exact = x.double() @ encoder.double().T + bias.double()
    error = 4 * width * 2**-23 * (x.norm(dim=1)[:, None] * encoder.norm(dim=1) + bias.abs())
    check_against(exact, error.double() + 1e-37, rows_of(active, len(x)), activation)


def check_against(exact, error, rows, activation) -> None:
    """Compare with float64, leaving open what float32 cannot tell apart."""
    for found, pre, near in zip(rows, exact, error, strict=True):
        margin = pre - activation.floor
        if isinstance(activation, Gated):
            value = pre * activation.factor_L.double() + activation.shift_L.double()
            near = near * activation.factor_L.clamp(min=1) + 1e-6 * value.abs()
            margin = torch.minimum(margin, value)
        else:
            value = pre
        if isinstance(activation, TopK) and len(pre) > activation.k:
            kth = pre.topk(activation.k)
            margin = torch.minimum(margin, pre - kth.values[-1])
            sure = pre - near > (pre + near).topk(activation.k + 1).values[-1]
            sure &= pre > near
            assert len(found) <= activation.k
        else:
            sure = margin > near
        kept = torch.zeros(len(pre), dtype=torch.bool)
        kept[list(found)] = True
        assert bool(kept[sure].all())
        assert bool((margin[kept] >= -2 * near.max()).all())
        got = torch.tensor([found.get(i, 0.0) for i in range(len(pre))], dtype=torch.float64)
        assert bool(((got - value).abs() <= near)[kept].all())


@pytest.mark.parametrize("kind", ["topk", "above", "gated"])
def test_screening_does_the_usual_case_itself(kind):
    width, n_latents = 256, 4096
    encoder = draw(1, n_latents, width) / width**0.5
    bias = torch.full((n_latents,), -2.0 if kind == "gated" else 0.0)
    screened = Screen(encoder, bias, an_activation(kind, n_latents, 16, 0))
    active = screened(draw(2, 40, width))
    assert active is not None
    assert len(active.value_M)
    assert not screened.is_given_up


@pytest.mark.parametrize("k", [1, 3])
def test_a_latent_along_what_rounding_takes_is_found(k):
    """The worst case of the bound: its direction is the rounding error of the state."""
    x = draw(7, 256)
    along = x.bfloat16().float() / x.bfloat16().float().norm()
    lost = x - (x @ along) * along
    lost = lost / lost.norm()
    across = draw(8, 2048, 256)
    for unit in (along, lost):
        across -= (across @ unit)[:, None] * unit
    encoder = 4 * across / across.norm(dim=1, keepdim=True)
    encoder[:40] += 0.053 * along
    encoder[40:] -= 0.1 * along
    encoder[900] = 0.05 * along + 4 * lost
    encoder[901] = 0.0531 * along + 4 * lost
    pre = encoder.double() @ x.double()
    assert pre.topk(2).indices.tolist() == [901, 900]
    active = Screen(encoder, torch.zeros(2048), TopK(k))(x[None])
    assert active is not None
    assert sorted(active.latent_M.tolist()) == sorted(pre.topk(k).indices.tolist())


@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-30, 1e-10, 1e10])
def test_screening_holds_for_tiny_and_large_states(scale):
    x, encoder, bias = draw(2, 6, 64), draw(1, 2048, 64), torch.full((2048,), -1.0)
    bias[::100] = 1.0
    x *= scale
    active = Screen(encoder, bias, TopK(8))(x)
    assert active is not None
    exact = (x.double() @ encoder.double().T + bias.double()).topk(8).values.clamp(min=0)
    sums = [sum(row.values()) for row in rows_of(active, 6)]
    assert sums == pytest.approx(exact.sum(1).tolist(), rel=1e-5)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_screening_leaves_states_that_are_no_numbers_to_the_dense_way(wrong):
    x = draw(2, 5, 64)
    x[3, 7] = wrong
    assert Screen(draw(1, 512, 64), torch.zeros(512), TopK(4))(x) is None


def test_screening_is_given_up_where_it_leaves_too_many():
    encoder = draw(1, 1, 64).expand(1024, 64).contiguous()
    screened = Screen(encoder, torch.zeros(1024), TopK(4))
    x = encoder[:1].expand(3, 64).contiguous()
    assert [screened(x) for _ in range(9)] == [None] * 9
    assert screened.is_given_up


def test_screening_is_given_up_where_the_device_multiplies_badly(monkeypatch):
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: mm(a, b, out=out).mul_(0.9))
    screened = Screen(draw(1, 512, 64), torch.zeros(512), TopK(4))
    assert screened(draw(2, 70, 64)) is None
    assert screened.is_given_up


def coder(activation, *, chunk_bytes: int = 2**22) -> LinearCoder:
    n_latents, width = 4096, 128
    spec = CoderSpec(
        hookpoint="h", format="f", architecture="topk-sae", module="h", site="output", d_in=width,
        n_latents=n_latents, k=16,
    )  # fmt: skip
    encoder = (draw(1, width, n_latents) / width**0.5).T
    weights = Weights(
        encoder_LD=encoder, bias_L=draw(2, n_latents) * 0.1, decoder_LO=encoder,
        b_dec_O=torch.zeros(width),
    )  # fmt: skip
    return LinearCoder(spec, weights, activation, chunk_bytes=chunk_bytes)


@pytest.mark.parametrize("activation", [TopK(16), Above(2.5)])
def test_a_coder_finds_the_same_screened_and_dense(monkeypatch, activation):
    x = draw(3, 70, 128)
    x[11] = 1e20  # one chunk of several is left to the dense way
    found = []
    for pays in (True, False):
        monkeypatch.setattr(screen, "pays", lambda *_, pays=pays: pays)
        found.append(rows_of(coder(activation, chunk_bytes=300_000).encode(x), len(x)))
    for screened, dense in zip(*found, strict=True):
        assert screened.keys() == dense.keys()
        assert list(screened.values()) == pytest.approx([dense[i] for i in screened], rel=1e-5)


def test_products_stay_float32_where_the_process_allows_less():
    x = draw(3, 20, 128)
    expected = coder(Above(2.5)).encode(x)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = coder(Above(2.5)).encode(x)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.latent_M, expected.latent_M)
    assert torch.equal(found.value_M, expected.value_M)
