"""Which explanations are judged on a unit's latents: own ones, and borrowed ones for the null."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import queries, units, where
from lakeinterp.score.scorer import ToJudge

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import duckdb

    from lakeinterp.chat.types import Chat
    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.score.scorer import ExplanationRole
    from lakeinterp.score.scoring import Scoring

_log = logging.getLogger(__name__)
REACH = 16
"""Explanations are borrowed from latents this many places away in the order of density."""


def meant(config: Config) -> str | None:
    """Return the settings digest of the explanations that `explain` leads to.

    None if that cannot be told from the settings, for example of explanations that were loaded
    from a source which they do not name.
    """
    from lakeinterp.explain.explainer import load_explainer, settings_of

    try:
        return settings_of(load_explainer(config.explain), config)
    except (ConfigError, NotFound):
        return None


def explained(lake: Lake, config: Config, capture: str, hookpoints: Collection[str]) -> set[str]:
    """Return the hookpoints with explanations to score by the explainer of the settings.

    Warns where these are not those that one would expect.
    """
    explainer, sample = config.explain.explainer, units.sample_id(lake, capture, config.sampling)
    with lake.connect(explanations=where(capture=capture)) as con:
        rows = queries.load("score/explained").run(
            con, capture=capture, explainer=explainer, settings=meant(config), sample=sample
        )
        found = [row for row in rows.fetchall() if row[0] in hookpoints]
    for hookpoint, n_made, n_newer in found:
        if not n_made:
            _log.warning(
                "%s/%s: none of the explanations by %r was made with these explain and "
                "chat.explainer settings: the newest one of each latent is scored",
                *(capture, hookpoint, explainer),
            )
        elif n_newer:
            _log.warning(
                "%s/%s: the explanations by %r that were made with these settings are scored; %d "
                "latents have newer ones made with others, which are what reports show",
                *(capture, hookpoint, explainer, n_newer),
            )
    return {hookpoint for hookpoint, _, _ in found}


class Planned(NamedTuple):
    """What a scorer has to do on a unit."""

    scoring: Scoring
    own: list[dict[str, Any]]
    """The explanations of the chosen latents, by latent."""
    wanted: dict[int, list[ToJudge]]
    """Those still to be judged on each latent's items, borrowed ones too."""


def planned(
    scorings: Sequence[Scoring], selected: Sequence[int], chat: Chat | None
) -> list[Planned]:
    """Return what each scorer has to do on a unit; refuse whatever can be refused.

    Args:
        scorings: The scorers on one unit.
        selected: The chosen latents, at least one.
        chat: For scorers that need a language model.

    Raises:
        ConfigError: a scorer needs a language model, or what it runs here is missing.
        LakeError: examples of some of these latents are still to be drawn.
    """
    for scoring in scorings:
        if scoring.scorer.needs_chat and chat is None:
            raise ConfigError(
                f"score.scorers: {scoring.scorer.name!r} asks a language model: set chat.judge or "
                "chat.explainer, or use the pattern scorer, which needs none"
            )
    if not scorings:
        return []
    first = scorings[0]
    units.require_examples(first.lake, first.unit, first.sample, first.config.sampling, selected)
    made, found = meant(first.config), []
    with first.connect(selected) as con:
        for scoring in scorings:
            own = _own(con, scoring, selected, made)
            found.append(Planned(scoring, own, _wanted(con, scoring, own)))
    for scoring, _, wanted in found:
        if wanted:
            scoring.scorer.check(scoring.bench(wanted))
    return found


def _own(
    con: duckdb.DuckDBPyConnection, scoring: Scoring, latents: Sequence[int], made: str | None
) -> list[dict[str, Any]]:
    """Return the explanation of each latent that has one, by latent.

    Those made with the settings `made`, if the hookpoint has any; else each latent's newest.
    """
    table = queries.load("score/explanations").table(
        con,
        **scoring.place,
        explainer=scoring.config.explain.explainer,
        settings=made,
        sample=scoring.sample,
        latents=list(latents),
    )
    return list(table.to_pylist())


def _wanted(
    con: duckdb.DuckDBPyConnection, scoring: Scoring, own: Sequence[Mapping[str, Any]]
) -> dict[int, list[ToJudge]]:
    """Return the explanations still to be judged on each latent's items, own before borrowed."""
    described = [row for row in own if row["status"] == "ok"]
    reads = scoring.scorer.uses_explanation
    pairs = [(r["latent"], _to_judge(r, r["latent"], "own")) for r in (described if reads else own)]
    for settings in sorted({row["settings"] for row in described}) if reads else ():
        latents = [row["latent"] for row in described if row["settings"] == settings]
        pairs += [
            (row["latent"], _to_judge(row, row["explained_latent"], "borrowed"))
            for row in _borrowed(con, scoring, settings, latents)
        ]
    again = scoring.config.chat.tried_again
    rows = queries.load("score/judged").run(con, **scoring.who, transient=again)
    judged = set(rows.fetchall())
    wanted: dict[int, list[ToJudge]] = {}
    for latent, explanation in pairs:
        if (latent, explanation.explanation) not in judged:
            wanted.setdefault(latent, []).append(explanation)
    return wanted


def _borrowed(
    con: duckdb.DuckDBPyConnection, scoring: Scoring, settings: str, latents: Sequence[int]
) -> list[dict[str, Any]]:
    config = scoring.config
    table = queries.load("score/borrowed").table(
        con,
        **scoring.place,
        explainer=config.explain.explainer,
        settings=settings,
        sample=scoring.sample,
        latents=list(latents),
        n=config.score.n_borrowed,
        reach=max(REACH, config.score.n_borrowed),
        share=config.score.null_share,
        seed=config.sampling.seed,
    )
    return list(table.to_pylist())


def _to_judge(row: Mapping[str, Any], explained: int, role: ExplanationRole) -> ToJudge:
    return ToJudge(
        explanation=row["explanation"],
        text=row["text"] or "",
        detail=json.loads(row["detail"]) if row["detail"] else None,
        role=role,
        explained_latent=explained,
    )
