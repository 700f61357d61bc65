"""Baselines that say of a latent what was said of another one."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from lakeinterp.explain.explainer import Explainer, bare
from lakeinterp.explain.sources import only_explainer
from lakeinterp.lake import queries, where
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.lake import Bench


class Other(NamedTuple):
    """An explanation that may be taken."""

    latent: int
    explanation: str
    text: str
    density: float
    """Share of the tokens on which its own latent fires."""
    detail: str | None = None
    """Its machine-readable form, as JSON."""


class OtherExplainer(Explainer):
    """Takes another latent's explanation, of the same hookpoint; never one that says the same.

    When that one is written anew, so is what was taken of it.
    """

    needs_chat = False
    takes_texts = True
    tried_again = ("not_applicable",)
    prompt: str | None = None
    fields: ClassVar[frozenset[str]] = frozenset()
    """Settings that matter, beside `source_explainer`."""

    def __init__(self, config: ExplainConfig) -> None:
        """Which explainer's explanations are taken matters, and how the other is chosen."""
        self._config = config
        self._chosen: dict[int, Other] = {}
        used = config.model_dump(mode="json", include={*self.fields, "source_explainer"})
        self.settings = digest([self.name, 3, used])

    def look(self, bench: Bench) -> None:
        """Find what there is to take, and which of it each latent gets.

        Raises:
            ConfigError: it is not clear whose explanations are meant.
            NotFound: there are none by the wanted explainer.
        """
        explainer = only_explainer(bench.lake, self._config.source_explainer, [bench.capture])
        place = where(capture=bench.capture, hookpoint=bench.hookpoint)
        with bench.lake.connect(explanations=place, latents=place) as con:
            rows = queries.load("explain/others").run(
                con, capture=bench.capture, hookpoint=bench.hookpoint, explainer=explainer
            )
            others = self.arranged([Other(*row) for row in rows.fetchall()])
        texts = {other.latent: other.text for other in others}
        self._chosen = {}
        for evidence in bare(bench):
            latent = evidence.latent.latent
            fitting = (
                other
                for other in self.in_turn(evidence, others)
                if other.latent != latent and other.text != texts.get(latent)
            )
            if found := next(fitting, None):
                self._chosen[latent] = found

    def taken(self, latent: int) -> str | None:
        """Return the id of the explanation that a latent gets."""
        found = self._chosen.get(latent)
        return found.explanation if found else None

    @abstractmethod
    def arranged(self, others: Sequence[Other]) -> list[Other]:
        """Return the explanations in the order in which `in_turn` is given them."""

    @abstractmethod
    def in_turn(self, evidence: Evidence, others: Sequence[Other]) -> Iterator[Other]:
        """Yield the explanations, the one to be taken first; the latent's own may be among them."""

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Return what was said of another latent."""
        del chat
        taken = self._chosen.get(evidence.latent.latent)
        if taken is None:
            return Explained(
                text=None,
                status="not_applicable",
                reason="no other latent of this hookpoint is explained otherwise by the explainer "
                "whose explanations are taken",
            )
        said = json.loads(taken.detail) if taken.detail else {}
        source = {"explanation": taken.explanation, "explained_latent": taken.latent}
        return Explained(text=taken.text, detail=said | source)
