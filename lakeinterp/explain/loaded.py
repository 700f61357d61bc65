"""Explanations that were made elsewhere, to be scored beside those that are made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.errors import ConfigError
from lakeinterp.explain import sources
from lakeinterp.explain.explainer import Explainer
from lakeinterp.lake import where
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.lake import Bench


class LoadedExplainer(Explainer):
    """Takes explanations from `explain.source`; a latent that it lacks gets no text."""

    name = "loaded"
    needs_chat = False
    needs_examples = False
    takes_texts = True
    prompt: str | None = None

    def __init__(self, config: ExplainConfig) -> None:
        """Read the source: explanations are the same as long as its texts are.

        Raises:
            ConfigError: `explain.source` is not set, or holds no explanations.
            NotFound: there is nothing.
        """
        if not config.source:
            raise ConfigError(
                "explain.source: say where the explanations are: a CSV, JSON or JSONL file, a "
                "folder that delphi wrote, or a lake (--source)"
            )
        self._source = sources.read(config.source, config.source_explainer)
        self._latents: sources.Latents = {}
        self.settings = digest(["loaded", 1, self._source.digest])

    def prepare(self, bench: Bench) -> None:
        """Find the explanations of the hookpoint."""
        n_hookpoints = len(bench.lake.rows("hookpoints", where(capture=bench.capture)))
        self._latents = self._source.of(bench.capture, bench.hookpoint, n_hookpoints)

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Return the explanation of one latent, or that the source has none."""
        del chat
        found = self._latents.get(evidence.latent.latent)
        if found is None or not found.text:
            what = "has no explanation of this latent" if found is None else "has an empty one"
            return Explained(
                text=None, status="not_applicable", reason=f"{self._source.name} {what}"
            )
        detail = {"source": self._source.name, "explanation": found.explanation}
        return Explained(text=found.text, detail=detail)
