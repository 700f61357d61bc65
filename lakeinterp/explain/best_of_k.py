"""The explainer that asks several times and keeps the explanation that tells windows apart best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lakeinterp.explain.asking import put
from lakeinterp.explain.selecting import SelectingExplainer, choose, keys_of, together
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat, Request
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence


class BestOfKExplainer(SelectingExplainer):
    """Chooses among k candidates by detection on documents that none of them was written from.

    Candidates differ by chance, at a temperature above zero, or by the windows they are shown.
    """

    name = "best_of_k"

    def __init__(self, config: ExplainConfig) -> None:
        """Take the settings and make the explainer of the candidates."""
        super().__init__(config)
        heat = ["candidate_temperature"] if config.vary == "temperature" else []
        self.settings = self.identity("n_candidates", "vary", *heat)

    def requests(self, shown: Evidence) -> list[Request]:
        """Return the calls for the candidates."""
        candidates = range(self._config.n_candidates)
        if self._config.vary == "windows":
            made = [self._asker.request(_some(shown, i), repeat=i) for i in candidates]
            # Where windows do not enter the question, as with `output_centric`, it is asked once.
            found: dict[str, Request] = {}
            for request in made:
                found.setdefault(replace(request, repeat=0).key(""), request)
            return list(found.values())
        temperature = self._config.candidate_temperature
        return [self._asker.request(shown, temperature=temperature, repeat=i) for i in candidates]

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Ask for candidates, have each judged, and return the best one.

        `detail` holds every candidate with its accuracy. Candidates that say the same are judged
        once.

        Raises:
            TooFewExamples: there is nothing to be shown, or to select on.
        """
        assert chat is not None, "explain_unit refuses to start without a chat"
        shown, kept = self.parts(evidence)
        asked = await together(put(chat, request) for request in self.requests(shown))
        texts = list(dict.fromkeys(a.value for a in asked if a.value is not None))
        trials = await together(self.tried(kept, text, chat) for text in texts)
        chosen = choose(asked, trials)
        if isinstance(chosen, Explained):
            return chosen
        return Explained(
            text=texts[chosen],
            detail={
                "candidates": [trial.as_detail() for trial in trials],
                "chosen": chosen,
                "n_failed": sum(a.value is None for a in asked),
            },
            reply_keys=keys_of(*asked, *trials),
        )


def _some(shown: Evidence, candidate: int) -> Evidence:
    """Return two thirds of the activating windows, others for every candidate, and all silent ones.

    Of one or two windows all are shown.
    """
    drawn = sorted(shown.activating, key=lambda e: (digest([candidate, e.example]), e.example))
    n = max(min(2, len(drawn)), 2 * len(drawn) // 3)
    kept = sorted((*drawn[:n], *shown.silent), key=lambda e: e.example)
    return replace(shown, examples=tuple(kept))
