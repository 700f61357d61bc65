"""One sentence for every latent: what an explanation that says nothing scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.explain.explainer import Explainer
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence


class ConstantExplainer(Explainer):
    """Says `explain.constant` of every latent."""

    name = "constant"
    needs_chat = False
    needs_examples = False
    prompt: str | None = None

    def __init__(self, config: ExplainConfig) -> None:
        """Only the sentence matters."""
        self._text = " ".join(config.constant.split())
        self.settings = digest(["constant", 1, self._text])

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Return the sentence."""
        del evidence, chat
        return Explained(text=self._text)
