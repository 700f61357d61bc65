"""Token lists of different lengths as padded batches, near lengths together.

Shapes: B texts, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

CHUNK_BYTES = 256 * 2**20
"""Ceiling for what one batch makes of its tokens."""


class Padded(NamedTuple):
    """Some token lists of a sequence of them, padded on the right."""

    place_B: list[int]
    """Where each was in the sequence."""
    tokens_BT: Tensor
    mask_BT: Tensor
    """1 where there is a token, 0 where there is padding."""


def padded(lists: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token ids and mask, [B, T], padded with zeros on the right."""
    longest = max(len(tokens) for tokens in lists)
    tokens_BT = torch.zeros(len(lists), longest, dtype=torch.int64)
    mask_BT = torch.zeros(len(lists), longest, dtype=torch.int64)
    for row, tokens in enumerate(lists):
        tokens_BT[row, : len(tokens)] = torch.tensor(list(tokens), dtype=torch.int64)
        mask_BT[row, : len(tokens)] = 1
    return tokens_BT, mask_BT


def batches(lists: Sequence[Sequence[int]], bytes_per_token: int) -> Iterator[Padded]:
    """Yield every token list once, those of near lengths together.

    Args:
        lists: None is empty.
        bytes_per_token: What is made of one token; decides how many go into a batch.
    """
    order = sorted(range(len(lists)), key=lambda i: (len(lists[i]), i))
    while order:
        # The longest of a batch is its last: take as many as fit at that one's length.
        n = len(order)
        while n > 1 and n * len(lists[order[n - 1]]) * bytes_per_token > CHUNK_BYTES:
            n = max(1, min(n - 1, CHUNK_BYTES // (len(lists[order[n - 1]]) * bytes_per_token)))
        place_B, order = order[:n], order[n:]
        yield Padded(place_B, *padded([lists[i] for i in place_B]))
