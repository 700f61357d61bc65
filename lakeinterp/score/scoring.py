"""One scorer at work on one unit: what it may see, and how its judgements and scores are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.chat.turns import turned
from lakeinterp.lake import Bench, where
from lakeinterp.score.scorer import load_scorer
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import duckdb
    import pyarrow as pa

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.score.scorer import Scorer
    from lakeinterp.terms import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """One scorer at work on one unit."""

    lake: Lake
    unit: Unit
    config: Config
    scorer: Scorer
    settings: str
    """Digest of the scorer's settings and of the models that are asked."""
    sample: str
    """Of the examples that explanations are made from and judged on."""
    run: str

    @property
    def place(self) -> dict[str, str]:
        """Capture and hookpoint."""
        return {"capture": self.unit.capture, "hookpoint": self.unit.hookpoint}

    def connect(self, latents: Sequence[int] | None) -> duckdb.DuckDBPyConnection:
        """Return a connection that sees the hookpoint's explanations and latents.

        Of its examples, judgements and scores it sees at least those of `latents`; None sees all.
        """
        key = mine = where(**self.place)
        if latents:
            mine += f" AND latent >= {min(latents)} AND latent <= {max(latents)}"
        return self.lake.connect(
            explanations=key, latents=key, examples=mine, judgements=mine, scores=mine
        )

    def write(self, name: str, rows: pa.Table | Sequence[Mapping[str, object]]) -> int:
        """Write rows of some of the hookpoint's latents; return how many."""
        return self.lake.upsert(name, rows, scope=self.place, spans=("latent",))

    @property
    def is_sequential(self) -> bool:
        """Whether judging stops where an interval is narrow enough."""
        return bool(self.config.score.adaptive_width) and self.scorer.is_itemwise

    def bench(self, latents: Iterable[int]) -> Bench:
        """Return what the scorer may look up about the latents it judges."""
        wanted = tuple(sorted(latents))
        return Bench(
            lake=self.lake, config=self.config, sample=self.sample, latents=wanted, **self.place
        )

    @property
    def who(self) -> dict[str, str]:
        """Place, scorer and settings."""
        return {**self.place, "scorer": self.scorer.name, "settings": self.settings}


def judged_by(scorer: Scorer, config: Config) -> str:
    """Return the digest of a scorer's settings, of the models that are asked and of the turn."""
    judge = config.chat.judge if scorer.route == "judge" else config.chat.explainer
    route = judge if judge.deployments else config.chat.explainer
    models = sorted({d.name for d in route.deployments}) if scorer.needs_chat else []
    width = config.score.adaptive_width if scorer.is_itemwise else 0
    narrow = [width] if width else []
    again = turned(config.score.turn) if scorer.needs_chat else []
    return digest([scorer.settings, models, *narrow, *again])


def scoring_of(lake: Lake, unit: Unit, config: Config, name: str, sample: str, run: str) -> Scoring:
    """Return a scorer of the settings at work on a unit."""
    scorer = load_scorer(name, config.score)
    return Scoring(
        lake=lake,
        unit=unit,
        config=config,
        scorer=scorer,
        settings=judged_by(scorer, config),
        sample=sample,
        run=run,
    )
