"""The coders room: sparse coder formats, found, loaded and encoded to (token, latent, value)."""

from lakeinterp.coders.base import Active, CoderFiles, CoderSpec, SparseCoder
from lakeinterp.coders.find import CoderFolder, find

__all__ = ["Active", "CoderFiles", "CoderFolder", "CoderSpec", "SparseCoder", "find"]
