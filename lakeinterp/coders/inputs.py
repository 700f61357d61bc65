"""What coders do to hidden states before they encode them, and how it is undone after decoding.

Shapes: N tokens, D width, O width decoded to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["none", "scale", "norm", "layer"]
LAYER_EPS = 1e-5


class Prepared(NamedTuple):
    """Hidden states as a coder wants them: (raw - shift) / spread, up to a small epsilon."""

    x_ND: Tensor
    shift: Tensor | float
    spread: Tensor | float


@dataclass(slots=True)
class Inputs:
    """One preparation of hidden states.

    `scale` multiplies by one number; `norm` gives every token the norm sqrt(D); `layer` subtracts
    each token's mean and divides by its standard deviation (of the sample, plus 1e-5).
    """

    kind: Kind = "none"
    scale: float | None = None
    """Factor of `scale`; None until `calibrate`."""
    restore: bool = True
    """Whether decoding undoes it: for an SAE, whose output is of the kind of its input."""

    @property
    def is_open(self) -> bool:
        """Whether the factor is not known from the files and must be measured."""
        return self.kind == "scale" and self.scale is None

    def calibrate(self, x_ND: Tensor) -> None:
        """Set the factor that gives these hidden states the mean norm sqrt(D)."""
        x_ND = x_ND.float()
        self.scale = float(x_ND.shape[-1] ** 0.5 / x_ND.norm(dim=-1).mean())

    def prepare(self, x_ND: Tensor) -> Prepared:
        """Return hidden states in float32, prepared."""
        x_ND = x_ND.float()
        if self.kind == "none":
            return Prepared(x_ND, 0.0, 1.0)
        if self.kind == "scale":
            if self.scale is None:
                raise ValueError("the input scale is not known: calibrate first")
            return Prepared(x_ND * self.scale, 0.0, 1 / self.scale)
        if self.kind == "norm":
            factor_N1 = x_ND.shape[-1] ** 0.5 / x_ND.norm(dim=-1, keepdim=True)
            return Prepared(x_ND * factor_N1, 0.0, 1 / factor_N1)
        shift_N1 = x_ND.mean(-1, keepdim=True)
        x_ND = x_ND - shift_N1
        spread_N1 = x_ND.std(-1, keepdim=True)
        return Prepared(x_ND / (spread_N1 + LAYER_EPS), shift_N1, spread_N1)

    def undo(self, out_NO: Tensor, prepared: Prepared) -> Tensor:
        """Return what was decoded in the units of the hidden states."""
        if not self.restore or self.kind == "none":
            return out_NO
        return out_NO * prepared.spread + prepared.shift
