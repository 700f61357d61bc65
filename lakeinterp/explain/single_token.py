"""The explainer that shows the active tokens alone, for latents that need no context."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from lakeinterp.explain.asking import AskingExplainer
from lakeinterp.prompts import cited, marks

if TYPE_CHECKING:
    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.terms import Example


class SingleTokenExplainer(AskingExplainer):
    """Shows the highlighted pieces of the strongest windows and nothing of what is around them."""

    name = "single_token"
    fields = frozenset({"highlight_above", "n_shown"})

    def question(self, evidence: Evidence) -> str:
        """Return the distinct highlighted pieces with their counts, the strongest first."""
        counts: dict[str, int] = {}
        for example in evidence.activating[: self._config.n_shown]:
            for piece in highlighted(example, self._config.highlight_above):
                counts[piece] = counts.get(piece, 0) + 1
        lines = [f"{cited(piece)} x {n}" for piece, n in counts.items()]
        return self._user.fill(pieces="\n".join(lines))


def highlighted(example: Example, above: float) -> list[str]:
    """Return the texts of the runs of tokens that reach a share of the peak, in text order."""
    runs = groupby(zip(marks(example, above), example.pieces, strict=True), key=lambda at: at[0])
    return ["".join(piece for _, piece in run) for mark, run in runs if mark]
