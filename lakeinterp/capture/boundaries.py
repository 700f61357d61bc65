"""Attention that stops at document boundaries inside a packed sequence.

transformers masks attention between runs of positions: where positions start anew, so does what
a token sees. Not every model and attention implementation does so; each is tried before it is used.

Shapes: B sequences, T tokens, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence as Ordered

    from torch import Tensor

    from lakeinterp.capture.model import Read, SubjectModel
    from lakeinterp.corpus import Sequence

_MOST_LEFT = 0.1
"""Share of the effect of the document before that rounding may leave."""
_ROUNDING = 1e-3
"""Of the largest number of a hidden state: differences below it are none."""


def positions(sequences: Ordered[Sequence]) -> Tensor:
    """Return the position of each token within its document, [B, T].

    A document starts with the special token before it, if there is one: the beginning of the
    sequence or the end of the document before. One that goes on from the sequence before starts
    anew, as it has no more of itself in front of it.
    """
    position_BT = torch.arange(len(sequences[0].tokens)).repeat(len(sequences), 1)
    for position_T, sequence in zip(position_BT, sequences, strict=True):
        before = True  # the token before is of a document, or there is none
        for span in sequence.spans:
            if span.document is None or before:
                position_T[span.start :] = torch.arange(len(position_T) - span.start)
            before = span.document is not None
    return position_BT


def refuse_if_crossed(model: SubjectModel, reads: list[Read], tokens_BT: Tensor) -> None:
    """Stop if a model lets tokens see the document before theirs.

    Args:
        model: The model.
        reads: Where hidden states are wanted, in the order of `in_order`.
        tokens_BT: Some sequences; their halves stand for documents.

    Raises:
        ConfigError: the second half of a sequence differs from the same tokens alone.
    """
    n = tokens_BT.shape[1] // 2
    tokens_BT = tokens_BT[:, : 2 * n].repeat(2, 1)[:2]
    anew_BT = torch.arange(n).repeat(len(tokens_BT), 2)
    alone = model.hidden(tokens_BT[:, n:], reads)
    apart = model.hidden(tokens_BT, reads, positions_BT=anew_BT)
    joined = model.hidden(tokens_BT, reads)
    for read, x_BTD in alone.items():
        left = _difference(apart[read][:, n:], x_BTD)
        most = _MOST_LEFT * _difference(joined[read][:, n:], x_BTD)
        if not left <= most + _ROUNDING * float(x_BTD.abs().max()):
            raise ConfigError(
                f"capture.document_attention: {type(model.hf).__name__} with "
                f"{model.hf.config._attn_implementation} attention lets tokens see the document "
                "before theirs; try capture.attention = sdpa, or leave the setting out"
            )


def _difference(a_BTD: Tensor, b_BTD: Tensor) -> float:
    return float((a_BTD.float() - b_BTD.float()).abs().max())
