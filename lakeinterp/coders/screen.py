"""Encode at the speed of bfloat16 and keep the float32 result: screen, then score the survivors.

A matrix product in bfloat16 gives every latent an upper bound of its float32 pre-activation: the
approximate one and what rounding can have taken from it. With x = x' + dx and w = w' + dw, where
x' and w' are rounded, |x.w - x'.w'| <= |dx| |w| + |x'| |dw| (Cauchy-Schwarz), all of it known
before the product. The bound rides in the product: a column of norms meets a column of margins.
Latents that cannot reach the k-th largest, or their threshold, are out; the dot products of the
few that can are made anew in float32. So no active latent is missed and no value is rounded;
where two pre-activations differ by less than float32 rounds off, either may be kept, as with any
order of summing.

Shapes: C tokens of a chunk, D width, L latents, P latents with padding, E width with the columns
of the bound and padding, B blocks, M candidates.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from lakeinterp.coders import topk
from lakeinterp.coders.topk import Candidates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from lakeinterp.coders.activations import Screened
    from lakeinterp.coders.base import Active

_PAD = 32
"""Widths are padded to this, what the dot instructions of bfloat16 take at once."""
_SLACK = 1.01
"""On every margin: what float32 rounds off when the margins themselves are computed."""
_TINY = 1e-20
"""Added to margins, far above what is lost where tiny numbers are taken for zero."""
_HUGE = 1e30
"""A pre-activation that could be larger is left to the dense way, as are NaN and infinity."""
_STEP = 2.0**-23
"""Largest relative error of one float32 addition, whichever way it rounds."""
_CPU_CACHE_BYTES = 16 * 2**20
"""Of the screening product on a CPU, so that the passes over it find it in the caches."""
_CPU_TOKENS = 256
"""Fewer in one product on a CPU cost more than the caches give."""
_PROOF_TOKENS = 64
"""Tokens of which every bound is compared with the float32 pre-activation."""
_PATIENCE = 8
"""Chunks with too many survivors before screening is given up."""


def pays(device: torch.device, n_latents: int, d_in: int, activation: Screened) -> bool:
    """Return whether screening is faster than the float32 product on this machine.

    It is where bfloat16 has instructions of its own and few of many latents survive; the device,
    the sizes and nothing measured decide, so that every run decides alike.
    """
    if d_in < 128 or n_latents < max(1024, 4 * topk.CANDIDATE_SHARE * (activation.n_kept or 1)):
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


class Screen:
    """The bfloat16 table of one encoder and the margins of its latents."""

    def __init__(self, encoder_LD: Tensor, bias_L: Tensor, activation: Screened) -> None:
        """Round the encoder; half as much memory again as its float32 weights.

        Args:
            encoder_LD: Float32, contiguous.
            bias_L: Float32.
            activation: What picks among the survivors.
        """
        self._encoder_LD, self._bias_L, self._activation = encoder_LD, bias_L, activation
        self.n_latents, self._width = encoder_LD.shape
        rounded_LD = encoder_LD.to(torch.bfloat16)
        norm_L = encoder_LD.norm(dim=1)
        self._norm_max, self._bias_max = float(norm_L.max()), float(bias_L.abs().max())
        lost_L = (encoder_LD - rounded_LD.float()).norm(dim=1)
        self._lost = _SLACK * float((lost_L / norm_L.clamp(min=_TINY)).max())
        self._rounding = 2 * (self._width + 3) * _STEP
        height_L = bias_L - activation.floor
        slack_L = (self._rounding + 2.0**-15) * (bias_L.abs() + (bias_L - height_L).abs())
        self._table_PE, norm_P = self._table(rounded_LD, norm_L, height_L, slack_L)
        size = topk.block_size(len(norm_P), activation.n_kept or 1)
        self._size, padded_P = size, torch.zeros_like(norm_P)
        padded_P[: self.n_latents] = slack_L
        self._norm_B = topk.block_max(norm_P[None], size)
        self._slack_B = topk.block_max(padded_P[None], size)
        self._proved, self._missed, self._hit = False, 0, 0
        self._silence()

    @property
    def is_given_up(self) -> bool:
        """Whether the dense way has proved the better one for what this coder reads."""
        return self._missed > max(_PATIENCE, self._hit)

    def chunk_tokens(self, device: torch.device, chunk_bytes: int) -> int:
        """Return how many tokens to screen at a time."""
        n_latents = len(self._table_PE)
        # The product takes 2 bytes, its mask 1, what survives about 1.
        tokens = max(1, chunk_bytes // (4 * n_latents))
        if device.type == "cpu":
            tokens = min(tokens, max(_CPU_TOKENS, _CPU_CACHE_BYTES // (2 * n_latents)))
        return tokens

    def __call__(self, x_CD: Tensor) -> Active | None:
        """Return the active latents of float32 states, or None where the dense way must do it.

        That is where a state is not finite or enormous, or too many latents survive.
        """
        if not len(x_CD) or (screened := self._product(x_CD)) is None:
            return None
        upper_CP, margin_C1 = screened
        if not self._proved and not self._proves(x_CD, upper_CP, margin_C1):
            return None
        # The bits of positive bfloat16 numbers are in the order of the numbers, and a negative
        # number is a negative integer: comparing integers is several times as fast.
        bits_CP = upper_CP.view(torch.int16)
        flat_M = topk.places(bits_CP >= self._floor(bits_CP, margin_C1))
        if len(flat_M) > upper_CP.numel() // topk.CANDIDATE_SHARE:
            self._missed += 1
            return None
        self._hit += 1
        token_M = flat_M.div(upper_CP.shape[1], rounding_mode="floor")
        latent_M = flat_M - token_M * upper_CP.shape[1]
        pre_M = self._dots(x_CD, token_M, latent_M)
        return self._activation.among(Candidates(token_M, latent_M, pre_M, len(x_CD)))

    def _table(
        self, rounded_LD: Tensor, norm_L: Tensor, height_L: Tensor, slack_L: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rounded encoder with the columns of the bound, and the norms there: [P]."""
        n_rows = -(-self.n_latents // (topk.BLOCK * 8)) * topk.BLOCK * 8
        n_columns = -(-(self._width + 3) // _PAD) * _PAD
        table_PE = rounded_LD.new_zeros(n_rows, n_columns)
        own, width = table_PE[: self.n_latents], self._width
        own[:, :width] = rounded_LD
        own[:, width] = _up(norm_L * _SLACK + _TINY)
        own[:, width + 1] = height_L.to(torch.bfloat16)
        own[:, width + 2] = _up(height_L - own[:, width + 1].float() + slack_L)
        table_PE[self.n_latents :, width + 1] = -_HUGE
        return table_PE, table_PE[:, width].float()

    def _product(self, x_CD: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the upper bounds, [C, P] in bfloat16, and each token's margin by a unit norm."""
        rows_CE = self._table_PE.new_zeros(len(x_CD), self._table_PE.shape[1])
        rows_CE[:, : self._width] = x_CD
        rounded_CD = rows_CE[:, : self._width].float()
        norm_C = x_CD.norm(dim=1)
        if not bool((norm_C * self._norm_max + self._bias_max).amax() < _HUGE):
            return None
        lost_C = (x_CD - rounded_CD).norm(dim=1) + rounded_CD.norm(dim=1) * self._lost
        rows_CE[:, self._width] = _up((lost_C + norm_C * self._rounding) * _SLACK + _TINY)
        rows_CE[:, self._width + 1 : self._width + 3] = 1
        shape = (len(x_CD), len(self._table_PE))
        upper_CP = topk.scratch(shape, torch.bfloat16, x_CD.device)
        with _summed_in_float32(x_CD.device):
            torch.mm(rows_CE, self._table_PE.T, out=upper_CP)
        return upper_CP, rows_CE[:, self._width, None].float()

    def _floor(self, bits_CP: Tensor, margin_C1: Tensor) -> Tensor | int:
        """Return the bits that an upper bound must reach for its latent to be looked at."""
        k = self._activation.n_kept
        if k is None:
            return 1
        best_CB = topk.block_max(bits_CP, self._size).view(torch.bfloat16).float()
        lower_CB = self._lower(best_CB, margin_C1 * self._norm_B + self._slack_B)
        kth_C1 = lower_CB.topk(k, sorted=False).values.amin(1, keepdim=True)
        # One step lower, for a product that is rounded towards zero.
        bits_C1 = kth_C1.clamp(min=0).to(torch.bfloat16).view(torch.int16) - 1
        return bits_C1.clamp_(min=1)

    def _lower(self, upper: Tensor, margin: Tensor) -> Tensor:
        """Return what a pre-activation less its floor is at least, by its rounded upper bound."""
        return upper - upper.abs() * 2.0**-7 - 2 * _SLACK * margin

    def _dots(self, x_CD: Tensor, token_M: Tensor, latent_M: Tensor) -> Tensor:
        starts = topk.offsets(token_M, len(x_CD))
        wanted = torch.sparse_csr_tensor(
            starts, latent_M, x_CD.new_zeros(len(latent_M)), size=(len(x_CD), self.n_latents)
        )
        dots: Tensor = torch.sparse.sampled_addmm(wanted, x_CD, self._encoder_LD.T, beta=0.0)
        return dots.values() + self._bias_L[latent_M]

    def _proves(self, x_CD: Tensor, upper_CP: Tensor, margin_C1: Tensor) -> bool:
        """Compare the bounds of the first tokens with all their float32 pre-activations.

        Where one fails, this device multiplies with less precision than it should, and screening
        is given up.
        """
        x_CD, margin_C1 = x_CD[:_PROOF_TOKENS], margin_C1[:_PROOF_TOKENS]
        upper_CL = upper_CP[:_PROOF_TOKENS, : self.n_latents].float()
        high_CL = torch.addmm(self._bias_L, x_CD, self._encoder_LD.T) - self._activation.floor
        margin_CP = margin_C1 * self._table_PE[:, self._width].float()
        margin_CP += self._slack_B.expand(self._size, -1).flatten()
        holds_CL = high_CL <= upper_CL + upper_CL.abs() * 2.0**-7
        holds_CL &= high_CL >= self._lower(upper_CL, margin_CP[:, : self.n_latents])
        self._proved = bool(holds_CL.all())
        if not self._proved:
            self._missed = _PATIENCE + 1
        return self._proved

    def _silence(self) -> None:
        """Let torch say once, unheard, that its sparse tensors are young."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            none = torch.zeros(0, dtype=torch.int64, device=self._encoder_LD.device)
            self._dots(self._encoder_LD[:1], none, none)


def _up(x: Tensor) -> Tensor:
    """Return the next bfloat16 that is no less."""
    rounded = x.to(torch.bfloat16)
    above = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
    return torch.where(rounded.float() < x, above, rounded)


@contextmanager
def _summed_in_float32(device: torch.device) -> Iterator[None]:
    """Forbid sums in bfloat16, which a GPU may make of parts of a product."""
    if device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_bf16_reduced_precision_reduction = before
