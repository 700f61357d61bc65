"""The explainer that shows lists of tokens: where the latent peaks, what follows, what it raises.

The evidence that Neuronpedia's explainers of the kind `np_max-act` are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakeinterp.explain import outputs
from lakeinterp.explain.asking import AskingExplainer
from lakeinterp.prompts import cited

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.lake import Bench


class TokenListExplainer(AskingExplainer):
    """Shows the strongest tokens, the tokens after them, and those that the latent raises."""

    name = "token_list"
    fields = outputs.FIELDS | {"n_shown"}

    def __init__(self, config: ExplainConfig) -> None:
        """Load the prompts."""
        super().__init__(config)
        self._views: Mapping[int, outputs.Views] = {}

    def idle(self, config: ExplainConfig) -> set[str]:
        """Return the settings of steering where nothing is steered."""
        return outputs.idle(config)

    def prepare(self, bench: Bench) -> None:
        """Open the subject model, unless no output tokens are wanted."""
        if self._config.n_output_tokens:
            self._views = outputs.moved(bench, self._config)

    def question(self, evidence: Evidence) -> str:
        """Return three lists, one item of the first two for each of the strongest windows."""
        peaks, after = [], []
        for example in evidence.activating[: self._config.n_shown]:
            at = example.peak_offset
            if at is None:
                continue
            peaks.append(cited(example.pieces[at]))
            if at + 1 < len(example.pieces):
                after.append(cited(example.pieces[at + 1]))
        views = self._views.get(evidence.latent.latent)
        raised = [f"{cited(t)}" for lists in (views or {}).values() for t in lists.raised]
        return self._user.fill(
            peaks=", ".join(peaks) or "none",
            after=", ".join(after) or "none",
            raised=", ".join(dict.fromkeys(raised)) or "not known",
        )

    def detail(self, evidence: Evidence) -> dict[str, Any] | None:
        """Return the tokens that the latent raises, if they were asked for."""
        views = self._views.get(evidence.latent.latent)
        return outputs.as_detail(views) if views else None
