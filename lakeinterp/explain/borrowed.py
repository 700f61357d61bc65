"""A baseline: the explanation of the latent that fires about as often."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from lakeinterp.explain.others import OtherExplainer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.explain.others import Other


class BorrowedExplainer(OtherExplainer):
    """Takes the explanation of the latent nearest in density: right in how often, not in where."""

    name = "borrowed"

    def arranged(self, others: Sequence[Other]) -> list[Other]:
        """Return them in order of density."""
        return sorted(others, key=lambda o: (o.density, o.latent))

    def in_turn(self, evidence: Evidence, others: Sequence[Other]) -> Iterator[Other]:
        """Yield the nearest first; of two equally near the one that fires less often."""
        density = evidence.frequency.density if evidence.frequency else 0.0
        above = bisect_left(others, density, key=lambda o: o.density)
        below = above - 1
        while below >= 0 or above < len(others):
            is_below = above == len(others) or (
                below >= 0 and density - others[below].density <= others[above].density - density
            )
            yield others[below if is_below else above]
            below, above = (below - 1, above) if is_below else (below, above + 1)
