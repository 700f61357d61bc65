"""What an explainer may know of one latent, and how that is split for those that choose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lakeinterp.terms import digest

if TYPE_CHECKING:
    from lakeinterp.terms import Example, LatentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequency:
    """How often a latent fires, over all documents: numbers that say nothing of where."""

    status: str
    n_windows: int
    n_activations: int
    density: float
    """Share of the tokens on which it fires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an explainer may know of a latent: no token or value of a scorer's document.

    `frequency` alone is counted over all documents, the scorers' too.
    """

    latent: LatentId
    examples: tuple[Example, ...]
    """Of the explain role, in the order of their numbers."""
    frequency: Frequency | None = None
    """None if the latent was not counted."""

    @property
    def activating(self) -> tuple[Example, ...]:
        """The windows in which the latent fires, strongest first."""
        found = [e for e in self.examples if e.is_active]
        return tuple(sorted(found, key=lambda e: (-e.peak, e.example)))

    @property
    def silent(self) -> tuple[Example, ...]:
        """The windows in which it does not fire."""
        return tuple(e for e in self.examples if not e.is_active)

    def split(self, select: float) -> tuple[Evidence, Evidence]:
        """Return what may be shown and what is kept to select on, from different documents.

        A digest of the document decides, so that a document is on one side for all latents.

        Args:
            select: Share of the documents to select on.
        """
        is_kept = {e.document: _place(e.document) < select for e in self.examples}
        shown, kept = (
            tuple(e for e in self.examples if is_kept[e.document] is side) for side in (False, True)
        )
        return replace(self, examples=shown), replace(self, examples=kept)


def _place(document: int) -> float:
    """Return where a document stands between 0 and 1; nothing to do with its role."""
    return int(digest(["select", document]), 16) / 2**64
