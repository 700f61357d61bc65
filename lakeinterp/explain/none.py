"""No explanation: for scorers that judge the examples alone, and to see how judges guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.explain.explainer import Explainer
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence


class NoExplainer(Explainer):
    """Empty text for every latent."""

    name = "none"
    needs_chat = False
    needs_examples = False
    prompt: str | None = None
    settings = digest(["none", 1])

    def __init__(self, config: ExplainConfig) -> None:
        """None of the settings matters to this explainer."""
        del config

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Return an empty text."""
        del evidence, chat
        return Explained(text="")
