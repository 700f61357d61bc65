"""The coder that nearly all formats store: one linear map, one non-linearity, one map back.

Shapes: N tokens, C tokens of a chunk, D width, L latents, M activations, O width decoded to.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from lakeinterp.coders import screen, topk
from lakeinterp.coders.activations import Screened
from lakeinterp.coders.base import Active
from lakeinterp.coders.inputs import Inputs
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from lakeinterp.coders.activations import Activation
    from lakeinterp.coders.base import CoderSpec

_DECODE_BYTES = 32 * 2**20
"""Decoder rows gathered at one time, and their products with the activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Tensors of a coder, float32, on one device; views of any stride."""

    encoder_LD: Tensor
    bias_L: Tensor
    decoder_LO: Tensor
    b_dec_O: Tensor
    centre_D: Tensor | None = None
    """Subtracted from the prepared hidden states."""
    skip_OD: Tensor | None = None
    """Added to what is decoded, from the hidden states as they are."""
    value_scale_L: Tensor | None = None
    """Multiplies the activations that were kept."""
    decode_scale_L: Tensor | None = None
    """Multiplies the activations before they are decoded."""

    def check(self, spec: CoderSpec) -> None:
        """Refuse shapes that contradict each other.

        Raises:
            ConfigError: names the tensor, its shape and the expected one.
        """
        wide = (spec.n_latents,)
        expected = {
            "encoder": (self.encoder_LD, (spec.n_latents, spec.d_in)),
            "encoder bias": (self.bias_L, wide),
            "decoder": (self.decoder_LO, (spec.n_latents, *self.b_dec_O.shape)),
            "centre": (self.centre_D, (spec.d_in,)),
            "skip": (self.skip_OD, (*self.b_dec_O.shape, spec.d_in)),
            "scale": (self.value_scale_L, wide),
            "decode scale": (self.decode_scale_L, wide),
        }
        for name, (tensor, shape) in expected.items():
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ConfigError(
                    f"coder {spec.hookpoint}: its {name} has shape {list(tensor.shape)}, "
                    f"expected {list(shape)}"
                )


class LinearCoder:
    """A loaded coder in float32, whatever its files hold and the model runs in.

    Where the device multiplies bfloat16 much faster than float32, a bfloat16 product screens the
    latents first (`lakeinterp.coders.screen`); the result is the float32 one all the same.
    """

    def __init__(
        self,
        spec: CoderSpec,
        weights: Weights,
        activation: Activation,
        *,
        inputs: Inputs | None = None,
        chunk_bytes: int,
    ) -> None:
        weights.check(spec)
        self.spec, self.inputs = spec, inputs or Inputs()
        self._weights, self._activation = weights, activation
        self._chunk = max(1, chunk_bytes // (activation.bytes_per_latent * spec.n_latents))
        self._chunk_bytes = chunk_bytes
        self._screen: screen.Screen | None = None
        device = weights.encoder_LD.device
        if isinstance(activation, Screened) and screen.pays(
            device, spec.n_latents, spec.d_in, activation
        ):
            self._weights = replace(weights, encoder_LD=weights.encoder_LD.contiguous())
            self._screen = screen.Screen(self._weights.encoder_LD, weights.bias_L, activation)

    @property
    def weights(self) -> Weights:
        """Its tensors."""
        return self._weights

    @property
    def centre_D(self) -> Tensor | None:
        """What is subtracted from the prepared hidden states."""
        return self._weights.centre_D

    def encode(self, x_ND: Tensor) -> Active:
        """Return the active latents, chunk by chunk, in token order."""
        step = self._chunk
        if self._screen is not None:
            step = self._screen.chunk_tokens(x_ND.device, self._chunk_bytes)
        with _float32(), torch.no_grad():
            return _joined([self._encode(x_CD) for x_CD in x_ND.split(step)], step)

    def decode(self, active: Active, x_ND: Tensor) -> Tensor:
        """Return sum of value x decoder row, plus bias and skip, in the units of the model."""
        weights, latent_M, value_M = self._weights, active.latent_M.long(), active.value_M
        if weights.decode_scale_L is not None:
            value_M = value_M * weights.decode_scale_L[latent_M]
        out_NO = weights.b_dec_O.expand(len(x_ND), -1).clone()
        step = max(1, min(self._chunk_bytes, _DECODE_BYTES) // (8 * out_NO.shape[-1]))
        for start in range(0, len(value_M), step):
            part = slice(start, start + step)
            rows_MO = weights.decoder_LO[latent_M[part]] * value_M[part, None]
            out_NO.index_add_(0, active.token_M[part], rows_MO)
        out_NO = self.inputs.undo(out_NO, self.inputs.prepare(x_ND))
        return out_NO if weights.skip_OD is None else out_NO + x_ND.float() @ weights.skip_OD.T

    def _encode(self, x_CD: Tensor) -> Active:
        weights = self._weights
        x_CD = self.inputs.prepare(x_CD).x_ND
        if weights.centre_D is not None:
            x_CD = x_CD - weights.centre_D
        active = self._active(x_CD)
        if weights.value_scale_L is None:
            return active
        scale_M = weights.value_scale_L[active.latent_M.long()]
        return active._replace(value_M=active.value_M * scale_M)

    def _active(self, x_CD: Tensor) -> Active:
        if self._screen is not None:
            if self._screen.is_given_up:
                self._screen = None
            elif (active := self._screen(x_CD)) is not None:
                return active
        return _joined([self._dense(part_CD) for part_CD in x_CD.split(self._chunk)], self._chunk)

    def _dense(self, x_CD: Tensor) -> Active:
        weights = self._weights
        pre_CL = topk.scratch((len(x_CD), self.spec.n_latents), torch.float32, x_CD.device)
        torch.addmm(weights.bias_L, x_CD, weights.encoder_LD.T, out=pre_CL)
        return self._activation(pre_CL)


def _joined(parts: list[Active], step: int) -> Active:
    """Return parts of `step` tokens each as one."""
    if len(parts) == 1:
        return parts[0]
    token_M = torch.cat([part.token_M + i * step for i, part in enumerate(parts)])
    latent_M = torch.cat([part.latent_M for part in parts])
    return Active(token_M, latent_M, torch.cat([part.value_M for part in parts]))


@contextmanager
def _float32() -> Iterator[None]:
    """Keep products of float32 from being made in less, as a process may have asked torch to."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
