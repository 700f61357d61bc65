"""The explainer that shows a language model the strongest passages and asks what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakeinterp import prompts
from lakeinterp.chat.types import Message, Request
from lakeinterp.errors import UnparsableReply
from lakeinterp.explain.explainer import Explainer
from lakeinterp.prompts import highlight, marks, quote
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.explainer import Evidence
    from lakeinterp.terms import Example

N_LISTED = 12
"""Marked tokens whose strength is listed below one passage: the strongest, in text order."""
STEPS = 10
"""Strengths are whole numbers from 1 to this."""
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"explanation": {"type": "string"}},
    "required": ["explanation"],
    "additionalProperties": False,
}


class DefaultExplainer(Explainer):
    """Asks for one sentence from the strongest windows with their active tokens delimited."""

    name = "default"
    needs_chat = True

    def __init__(self, config: ExplainConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self._config = config
        system, user = (prompts.load(f"explain/default_{p}", config.prompts) for p in _PARTS[:2])
        activations, reasoning = (
            prompts.load(f"explain/default_{p}", config.prompts) for p in _PARTS[2:]
        )
        self._system = system.fill(
            activations_note=activations.fill() + "\n" if config.show_activations else "",
            reasoning_note=reasoning.fill() + "\n" if config.chain_of_thought else "",
        )
        self._user = user
        self.prompt: str | None = digest([self._system, user.text])
        self.settings = digest([config.digest(exclude={"explainer", "prompts"}), self.prompt])

    def request(self, evidence: Evidence) -> Request:
        """Return the call for one latent; the system message is the same for all latents."""
        strongest = evidence.activating[: self._config.n_shown]
        # Not the largest peak: a peak is its tile's, and the window may show the tile beside it.
        top = max(value for example in strongest for value in example.values)
        passages = [self._passage(n, e, top) for n, e in enumerate(strongest, start=1)]
        user = self._user.fill(examples="\n".join(passages))
        return Request(
            route="explainer",
            messages=(
                Message(role="system", content=self._system),
                Message(role="user", content=user),
            ),
            max_tokens=self._config.max_tokens,
            temperature=self._config.temperature,
            schema=None if self._config.chain_of_thought else _SCHEMA,
        )

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Explain one latent; a reply without an explanation becomes a status, not a text."""
        from lakeinterp.chat.ask import ask

        assert chat is not None, "explain_unit refuses to start without a chat"
        asked = await ask(chat, self.request(evidence), one_line)
        return Explained(
            text=asked.value if asked.status == "ok" else None,
            status=asked.status,
            reason=asked.reason,
            reply_keys=asked.reply_keys,
        )

    def _passage(self, number: int, example: Example, top: float) -> str:
        marked = marks(example, self._config.highlight_above)
        lines = [f"{number}: {highlight(example.pieces, marked)}"]
        if self._config.show_activations:
            lines.append(f"   strengths: {_strengths(example, marked, top)}")
        return "\n".join(lines)


_PARTS = ("system", "user", "activations", "reasoning")


def one_line(text: str) -> str:
    """Return the explanation in a reply, on one line.

    Raises:
        UnparsableReply: the reply holds none, or an empty one.
    """
    from lakeinterp.chat.parse import parse_field

    explanation = " ".join(parse_field(text, "explanation").split())
    if not explanation:
        raise UnparsableReply("the explanation is empty", text)
    return explanation


def _strengths(example: Example, marked: Sequence[bool], top: float) -> str:
    """List marked tokens with their strengths, the strongest `N_LISTED` in text order."""
    found = [i for i, mark in enumerate(marked) if mark]
    kept = sorted(sorted(found, key=lambda i: (-example.values[i], i))[:N_LISTED])
    return ", ".join(
        f"{_cited(example.pieces[i])} {max(1, round(STEPS * example.values[i] / top))}"
        for i in kept
    )


def _cited(piece: str) -> str:
    return '"' + quote(piece).replace('"', '\\"') + '"'
