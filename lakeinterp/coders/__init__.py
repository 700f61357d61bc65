"""The coders room: sparse coder formats, found, loaded and encoded to (token, latent, value)."""

from lakeinterp.coders.base import Active, CoderSpec, SparseCoder
from lakeinterp.coders.find import CoderFolder, find

__all__ = ["Active", "CoderFolder", "CoderSpec", "SparseCoder", "find"]
