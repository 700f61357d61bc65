"""The explainer that looks at what a latent does to the model's output, not at where it fires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakeinterp.errors import ConfigError
from lakeinterp.explain import outputs
from lakeinterp.explain.asking import AskingExplainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.lake import Bench


class OutputExplainer(AskingExplainer):
    """What explainers share that show tokens which a latent raises and lowers."""

    def __init__(self, config: ExplainConfig) -> None:
        """Load the prompts.

        Raises:
            ConfigError: no output tokens are to be shown.
        """
        if not config.n_output_tokens:
            raise ConfigError(
                f"explain.n_output_tokens: {self.name} shows output tokens; set one or more"
            )
        super().__init__(config)
        self._views: Mapping[int, outputs.Views] = {}

    def idle(self, config: ExplainConfig) -> set[str]:
        """Return the settings of steering where nothing is steered."""
        return outputs.idle(config)

    def prepare(self, bench: Bench) -> None:
        """Open the subject model and find the tokens of all latents of the unit at once."""
        self._views = outputs.moved(bench, self._config)

    def detail(self, evidence: Evidence) -> dict[str, Any]:
        """Return the tokens."""
        return outputs.as_detail(self._views[evidence.latent.latent])


class OutputCentricExplainer(OutputExplainer):
    """Explains from the output alone, so that latents are named too that never fire."""

    name = "output_centric"
    needs_examples = False
    fields = outputs.FIELDS

    def question(self, evidence: Evidence) -> str:
        """Return the lists of tokens."""
        return self._user.fill(tokens=outputs.written(self._views[evidence.latent.latent]))
