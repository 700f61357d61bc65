"""Simulation: can the activations be predicted token by token from the explanation."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from lakeinterp.score.scorer import Judgement, Scorer, shuffled
from lakeinterp.score.simulators import JsonSimulator, LogprobSimulator, TokenSimulator
from lakeinterp.terms import digest
from lakeinterp.work import in_parallel

if TYPE_CHECKING:
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ScoreConfig
    from lakeinterp.score.scorer import ScoringTask
    from lakeinterp.score.simulators import Simulated, Simulator
    from lakeinterp.terms import Example

_log = logging.getLogger(__name__)
VERSION = 1
"""Of the windows; grows when others are chosen from the same examples."""


class SimulationScorer(Scorer):
    """Predicts an activation from 0 to 10 for every token of some windows.

    Bills et al. 2023, Language models can explain neurons in language models. Half of the windows
    are activating ones, as many of each quantile as can be, half are random.
    """

    name = "simulation"
    needs_chat = True
    metrics = "score/simulation"
    headline = "correlation"
    is_natural = False

    def __init__(self, config: ScoreConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self._n = config.n_simulated
        self._json = JsonSimulator(config)
        self._simulator: Simulator = self._json
        if config.simulation == "logprobs":
            self._simulator = LogprobSimulator(config)
        elif config.simulation == "token":
            self._simulator = TokenSimulator(config)
        self._has_said = False
        used = [self._simulator.settings]
        if config.simulation == "logprobs":
            used.append(self._json.settings)
        self.settings = digest([VERSION, config.n_simulated, used])

    def windows(self, task: ScoringTask) -> list[Example]:
        """Return the windows that are simulated, activating ones first."""
        active: list[tuple[int, Example]] = []
        seen: dict[int | None, int] = {}
        for example in shuffled(task):
            if example.is_active:
                turn = seen[example.quantile] = seen.get(example.quantile, 0) + 1
                active.append((turn, example))
        active.sort(key=lambda at: at[0])
        random = [e for e in shuffled(task) if e.stratum == "random"]
        n_random = min(len(random), self._n // 2)
        return [*(e for _, e in active[: self._n - n_random]), *random[:n_random]]

    async def judge(self, task: ScoringTask, chat: Chat | None) -> list[Judgement]:
        """Simulate the chosen windows, all at one time as far as the chat allows."""
        assert chat is not None, "score_unit refuses to start without a chat"
        windows = self.windows(task)
        work = partial(self._judge, task.explanation.text, chat)
        found = in_parallel(enumerate(windows), work, limit=len(windows) or 1)
        return sorted([judgement async for judgement in found], key=lambda j: j.item)

    async def _judge(
        self, explanation: str, chat: Chat, numbered: tuple[int, Example]
    ) -> Judgement:
        call, example = numbered
        made = await self._simulator.simulate(explanation, example, chat)
        if made is None:
            self._say_once()
            made = await self._json.simulate(explanation, example, chat)
        return _judgement(example, call, made)

    def _say_once(self) -> None:
        if not self._has_said:
            self._has_said = True
            _log.warning(
                "simulation: the judge's route gives no log-probabilities of prompts: "
                "predicting as JSON (score.simulation = 'json')"
            )


def _judgement(example: Example, call: int, made: Simulated) -> Judgement:
    return Judgement(
        item=example.example,
        example=example,
        truth=None,
        values=made.values,
        detail={"mode": made.mode},
        call=call,
        status=made.status,
        reason=made.reason,
        reply_keys=made.reply_keys,
    )
