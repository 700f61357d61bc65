"""A baseline: the explanation of any other latent."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from lakeinterp.explain.others import OtherExplainer
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.explain.others import Other


class RandomExplainer(OtherExplainer):
    """Takes the explanation of another latent, whichever the seed says.

    Explanations stand on a ring at places that the seed decides, and a latent takes the next one
    after a place of its own: explanations that come later change the choice of few latents.
    """

    name = "random"
    fields = frozenset({"seed"})

    def arranged(self, others: Sequence[Other]) -> list[Other]:
        """Return them in the order of the ring."""
        return sorted(others, key=lambda other: self._place("other", other.latent))

    def in_turn(self, evidence: Evidence, others: Sequence[Other]) -> Iterator[Other]:
        """Yield those after the latent's place, once around."""
        mine = self._place("mine", evidence.latent.latent)
        first = bisect_left(others, mine, key=lambda o: self._place("other", o.latent))
        yield from others[first:]
        yield from others[:first]

    def _place(self, whose: str, latent: int) -> str:
        return digest([self._config.seed, whose, latent])
