"""The explainer that also shows passages in which the latent is silent."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from lakeinterp.errors import TooFewExamples
from lakeinterp.explain import passages
from lakeinterp.explain.asking import PASSAGES, AskingExplainer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.explain.evidence import Evidence
    from lakeinterp.terms import Example


class ContrastiveExplainer(AskingExplainer):
    """Shows what the explanation must not fit beside what it must: no scorer ever sees either."""

    name = "contrastive"
    fields = PASSAGES | {"n_counter", "counter_strata"}

    def question(self, evidence: Evidence) -> str:
        """Return the strongest windows and silent ones.

        Raises:
            TooFewExamples: no silent window of the wanted kinds was drawn for the explain role.
        """
        chosen = counter_examples(evidence, self._config.counter_strata, self._config.n_counter)
        if not chosen:
            raise TooFewExamples(0, 1, kind="silent")
        strongest = evidence.activating[: self._config.n_shown]
        return self._user.fill(
            examples=passages.active(strongest, self._config),
            counter_examples=passages.plain(chosen),
        )


def counter_examples(evidence: Evidence, strata: Sequence[str], n: int) -> list[Example]:
    """Return up to `n` silent windows, the kinds in turns in the order they are named."""
    kinds = [[e for e in evidence.silent if e.stratum == stratum] for stratum in strata]
    turns = [e for turn in zip_longest(*kinds) for e in turn if e is not None]
    return turns[:n]
