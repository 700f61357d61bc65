"""A model's own MLP neurons as latents: what its down projection reads.

No files: the model is the coder. The values above zero are kept, or the largest k of them (Gao et
al. 2024, arXiv 2406.04093, compare with the latter).

Shapes: N tokens, L neurons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.coders.activations import Above, TopK
from lakeinterp.coders.base import Active, CoderSpec
from lakeinterp.coders.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from lakeinterp.coders.activations import Activation

DOWN_PROJECTIONS = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out")
"""Names of the last linear map of an MLP in the families of transformers."""


def specs(down: Mapping[str, tuple[str, int]], k: int | None) -> tuple[CoderSpec, ...]:
    """Return one coder an MLP.

    Args:
        down: MLP to its down projection and the width of what that reads.
        k: Neurons kept at each token; None keeps those above zero.
    """
    kind = "relu-neurons" if k is None else "topk-neurons"
    return tuple(
        CoderSpec(
            hookpoint=mlp, format="neurons", architecture=kind, module=module, site="input",
            d_in=width, n_latents=width, k=k, control=True,
        )
        for mlp, (module, width) in sorted(down.items())
    )  # fmt: skip


class NeuronCoder:
    """The neurons of one MLP."""

    centre_D = None

    def __init__(self, spec: CoderSpec, chunk_bytes: int) -> None:
        self.spec, self.inputs = spec, Inputs()
        self._activation: Activation = Above() if spec.k is None else TopK(spec.k)
        self._chunk = max(1, chunk_bytes // (self._activation.bytes_per_latent * spec.n_latents))

    def encode(self, x_ND: Tensor) -> Active:
        """Return the neurons above zero, or the largest k, in token order."""
        import torch

        starts = range(0, max(1, len(x_ND)), self._chunk)
        parts = [self._activation(x_ND[s : s + self._chunk].float()) for s in starts]
        token_M = torch.cat([a.token_M + s for a, s in zip(parts, starts, strict=True)])
        latent_M = torch.cat([a.latent_M for a in parts])
        return Active(token_M, latent_M, torch.cat([a.value_M for a in parts]))

    def decode(self, active: Active, x_ND: Tensor) -> Tensor:
        """Return the states with the neurons that were not kept at zero."""
        out_NL = x_ND.new_zeros(x_ND.shape).float()
        out_NL[active.token_M, active.latent_M.long()] = active.value_M
        return out_NL
