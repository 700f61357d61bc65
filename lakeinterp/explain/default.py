"""The explainer that shows a language model the strongest passages and asks what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.chat.types import Message
from lakeinterp.explain import passages
from lakeinterp.explain.asking import PASSAGES, AskingExplainer
from lakeinterp.explain.shots import shots

if TYPE_CHECKING:
    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.explain.shots import Shot


class DefaultExplainer(AskingExplainer):
    """Asks for one sentence from the strongest windows with their active tokens delimited.

    With strengths or without, with reasoning or without, with worked examples or without, as the
    explainer of Paulo et al. 2024 (arXiv 2410.13928, section 3).
    """

    name = "default"
    fields = PASSAGES | {"few_shot"}

    def system(self) -> str:
        """Return the system message, worked examples below it if they are to stand there."""
        parts = [super().system()]
        if self._config.few_shot == "system":
            parts += [
                f"For example, to these passages:\n{shot.passages}\nthe reply is:\n{shot.answer}"
                for shot in self._shots()
            ]
        return "\n\n".join(parts)

    def turns(self) -> tuple[Message, ...]:
        """Return worked examples as earlier turns, if they are to stand there."""
        found: list[Message] = []
        for shot in self._shots() if self._config.few_shot == "turns" else ():
            asked = self._user.fill(examples=shot.passages)
            found += [
                Message(role="user", content=asked),
                Message(role="assistant", content=shot.answer),
            ]
        return tuple(found)

    def question(self, evidence: Evidence) -> str:
        """Return the strongest windows."""
        strongest = evidence.activating[: self._config.n_shown]
        return self._user.fill(examples=passages.active(strongest, self._config))

    def _shots(self) -> list[Shot]:
        return shots(self._prompt("default_shots"), self._config)
