"""The control of random directions: what a coder would find if its latents meant nothing.

Unit directions drawn alike for every process, read with the preparation of the coder that they
are compared with and with as many latents at a token.

Shapes: D width, L latents.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from lakeinterp.coders.activations import TopK
from lakeinterp.coders.linear import LinearCoder, Weights
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from lakeinterp.coders.base import SparseCoder


def matched(coder: SparseCoder, k: int, device: torch.device, chunk_bytes: int) -> LinearCoder:
    """Return a random coder of the width, place and sparsity of another.

    Args:
        coder: What it is compared with.
        k: Latents kept at each token.
        device: Where its directions are put.
        chunk_bytes: Ceiling for the pre-activations that exist at one time.
    """
    spec = replace(
        coder.spec, format="random", architecture="topk-random", k=k, target=None, control=True,
        published_l0=None, published_explained_variance=None,
    )  # fmt: skip
    seed = int(digest(["random coder", spec.hookpoint, spec.n_latents, spec.d_in], size=6), 16)
    generator = torch.Generator().manual_seed(seed)
    encoder_LD = torch.randn(spec.n_latents, spec.d_in, generator=generator)
    encoder_LD = (encoder_LD / encoder_LD.norm(dim=1, keepdim=True)).to(device)
    centre_D = coder.centre_D
    weights = Weights(
        encoder_LD=encoder_LD,
        bias_L=encoder_LD.new_zeros(spec.n_latents),
        decoder_LO=encoder_LD,
        b_dec_O=encoder_LD.new_zeros(spec.d_in) if centre_D is None else centre_D,
        centre_D=centre_D,
    )
    inputs = replace(coder.inputs, restore=True)
    return LinearCoder(spec, weights, TopK(k), inputs=inputs, chunk_bytes=chunk_bytes)
