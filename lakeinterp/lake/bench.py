"""What explainers and scorers may use beside the evidence of one latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakeinterp.config import Config
    from lakeinterp.lake.tables import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The hookpoint that is worked on, and where to look up more of it.

    Explainers and scorers get it once for each unit, before the first latent. Those that need the
    subject model or its coder open them from here (`lakeinterp.subject`).
    """

    lake: Lake
    config: Config
    capture: str
    hookpoint: str
    sample: str
    """Digest of the examples that explanations are made from and judged on."""
    latents: tuple[int, ...] = ()
    """Of the unit, those that will be worked on, sorted."""
