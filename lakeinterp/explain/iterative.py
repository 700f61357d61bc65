"""The explainer that is shown where its explanation fails and asked for a better one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp import prompts
from lakeinterp.explain import passages
from lakeinterp.explain.asking import put
from lakeinterp.explain.selecting import SelectingExplainer, choose, keys_of, together
from lakeinterp.prompts import quote
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from lakeinterp.chat.ask import Asked
    from lakeinterp.chat.types import Chat, Request
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.explain.selecting import Trial


class IterativeExplainer(SelectingExplainer):
    """Refines an explanation with the judge's errors and keeps the best of all rounds.

    The errors are on documents that the explainer may see; which round is best is decided on
    others. Both are of the explain role.
    """

    name = "iterative"

    def __init__(self, config: ExplainConfig) -> None:
        """Load the prompts and make the explainer of the first explanation."""
        super().__init__(config)
        system, user = (
            prompts.load(f"explain/iterative_{part}", config.prompts) for part in ("system", "user")
        )
        self._system = system.fill(
            activations_note=self._asker.note("activations", is_wanted=config.show_activations),
            reasoning_note=self._asker.note("reasoning", is_wanted=config.chain_of_thought),
        )
        self._user = user
        self.prompt = digest([self.prompt, self._system, user.text])
        shown = ("show_activations", "highlight_above", "n_shown")
        self.settings = self.identity("n_rounds", "n_errors", *shown)

    def better(self, shown: Evidence, trial: Trial) -> Request | None:
        """Return the call for a better explanation, None if the judge made no error to show.

        The passages stand first, so that the rounds of one latent share them.
        """
        n = self._config.n_errors
        missed, mistaken = trial.wrong(truth=True)[:n], trial.wrong(truth=False)[:n]
        if not missed and not mistaken:
            return None
        strongest = shown.activating[: self._config.n_shown]
        question = self._user.fill(
            examples=passages.active(strongest, self._config, among=missed),
            explanation=quote(trial.text),
            missed=passages.active(missed, self._config, among=strongest) or "none",
            mistaken=passages.plain(mistaken) or "none",
        )
        return self._asker.asking(question, system=self._system)

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Explain, look for errors, explain better, and return the best explanation.

        `detail` holds the explanation of every round with its accuracy on the documents to select
        on. It ends early when there are no errors, or no better explanation comes.

        Raises:
            TooFewExamples: there is nothing to be shown, or to select on.
        """
        assert chat is not None, "explain_unit refuses to start without a chat"
        shown, kept = self.parts(evidence)
        request: Request | None = self._asker.request(shown)
        asked: list[Asked[str]] = []
        trials: list[tuple[Trial, Trial]] = []
        while request is not None and len(asked) <= self._config.n_rounds:
            asked.append(await put(chat, request))
            text = asked[-1].value
            if text is None or any(trial.text == text for trial, _ in trials):
                break
            seen, unseen = await together(self.tried(part, text, chat) for part in (shown, kept))
            trials.append((seen, unseen))
            request = self.better(shown, seen)
        return _chosen(asked, trials)


def _chosen(asked: list[Asked[str]], trials: list[tuple[Trial, Trial]]) -> Explained:
    seen, unseen = [trial for trial, _ in trials], [trial for _, trial in trials]
    chosen = choose(asked, unseen, seen)
    if isinstance(chosen, Explained):
        return chosen
    return Explained(
        text=unseen[chosen].text,
        detail={"rounds": [trial.as_detail() for trial in unseen], "chosen": chosen},
        reply_keys=keys_of(*asked, *seen, *unseen),
    )
