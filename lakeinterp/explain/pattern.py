"""The pattern explainer: a short rule over token texts, found by counting. No language model.

It is the baseline that explanations written by a language model have to beat, and the route that
runs anywhere. The rule is chosen on the explain examples alone by weighted F1 over tokens at
natural prevalence, less a penalty for length (`lakeinterp.explain.induce`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.explain import induce
from lakeinterp.explain.columns import lay_out
from lakeinterp.explain.explainer import Explainer
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence

FLOOR = 0.1
"""Penalised F1 that a rule must reach; below it the row says `no_rule`."""
VERSION = 2
"""Of the search; grows when the same examples may lead to another rule."""


class PatternExplainer(Explainer):
    """Pattern rule, no language model: the best short rule over the texts of tokens."""

    name = "pattern"
    needs_chat = False
    prompt: str | None = None

    def __init__(self, config: ExplainConfig) -> None:
        """None of the settings matters to this explainer."""
        del config
        limits = [induce.PENALTY, induce.MAX_TEXTS, induce.MIN_DOCUMENTS, induce.SPAN, FLOOR]
        self.settings = digest([VERSION, limits])

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Find the best rule for one latent.

        `detail` holds the rule, and its precision, recall and F1 at the explain examples'
        tokens, weighted to natural prevalence.
        """
        del chat
        tokens = lay_out(evidence.examples)
        found = induce.best_rule(tokens)
        if found.score < FLOOR:
            return Explained(
                text=None,
                status="no_rule",
                reason=f"the best rule ({found.rule.in_words()}) reaches F1 {found.score:.3f} "
                f"less its length on the explain examples, under {FLOOR}",
            )
        hit = float(tokens.weight[found.fires & tokens.active].sum())
        train = {
            "precision": hit / float(tokens.weight[found.fires].sum()),
            "recall": hit / tokens.mass,
            "score": found.score,
        }
        return Explained(
            text=found.rule.in_words(), detail={"rule": found.rule.as_json(), "train": train}
        )
