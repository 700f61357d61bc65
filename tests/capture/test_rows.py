"""The rows of a shard against Python's own sort."""

from __future__ import annotations

import pytest
import torch

from lakeinterp.capture.rows import ShardBuffer
from lakeinterp.coders import Active
from lakeinterp.errors import NonFinite


@pytest.mark.parametrize("n_latents", [3, 70_000, 1_000_000])
def test_rows_of_batches_are_sorted_by_latent_then_token(n_latents):
    generator = torch.Generator().manual_seed(0)
    buffer, expected = ShardBuffer("h", torch.bfloat16), []
    for batch in range(3):
        token = torch.randint(0, 50, (400,), generator=generator).sort().values + 50 * batch
        latent = torch.randint(0, n_latents, (400,), generator=generator, dtype=torch.int32)
        value = torch.rand(400, generator=generator) - 0.2
        value = value.clamp(min=0)  # a fifth is zero, and no row
        assert buffer.add(Active(token - 50 * batch, latent, value), token, 256) == int(
            (value > 0).sum()
        )
        rounded = value.bfloat16().float()
        rows = zip(latent.tolist(), token.tolist(), rounded.tolist(), strict=True)
        expected += [row for row in rows if row[2]]
    found = buffer.sorted()
    assert [part.dtype.name for part in found] == ["int32", "int64", "float32"]
    assert list(zip(*(part.tolist() for part in found), strict=True)) == sorted(
        expected, key=lambda row: row[:2]
    )


def test_a_shard_without_rows_has_empty_columns():
    found = ShardBuffer("h", torch.float32).sorted()
    assert [(len(part), part.dtype.name) for part in found] == [
        (0, "int32"),
        (0, "int64"),
        (0, "float32"),
    ]


def test_what_rounding_makes_infinite_is_refused_with_its_place():
    active = Active(
        torch.tensor([0, 1]), torch.tensor([5, 6], dtype=torch.int32), torch.tensor([1, 1e6])
    )
    with pytest.raises(
        NonFinite, match=r"h: activation 1e\+06 of latent 6 at sequence 2, position 3"
    ):
        ShardBuffer("h", torch.float16).add(active, torch.tensor([514, 515]), 256)
