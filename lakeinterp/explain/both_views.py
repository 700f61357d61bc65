"""The explainer that shows where a latent fires and what it does to the output together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.explain import outputs, passages
from lakeinterp.explain.asking import PASSAGES
from lakeinterp.explain.output_centric import OutputExplainer

if TYPE_CHECKING:
    from lakeinterp.explain.evidence import Evidence


class BothViewsExplainer(OutputExplainer):
    """Shows the strongest windows, and the tokens that the latent raises and lowers."""

    name = "both_views"
    fields = PASSAGES | outputs.FIELDS

    def question(self, evidence: Evidence) -> str:
        """Return the windows and the lists of tokens."""
        strongest = evidence.activating[: self._config.n_shown]
        return self._user.fill(
            examples=passages.active(strongest, self._config),
            tokens=outputs.written(self._views[evidence.latent.latent]),
        )
