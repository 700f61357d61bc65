"""Explainers and scorers by name: strings resolved on use, so that listing them imports nothing.

Other packages add their own through the entry point groups `lakeinterp.explainers` and
`lakeinterp.scorers`; an entry point never replaces a name of this package.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from lakeinterp.errors import ConfigError, NotFound

Kind = Literal["explainer", "scorer"]

EXPLAINERS = {
    "default": "lakeinterp.explain.default:DefaultExplainer",
    "contrastive": "lakeinterp.explain.contrastive:ContrastiveExplainer",
    "single_token": "lakeinterp.explain.single_token:SingleTokenExplainer",
    "token_list": "lakeinterp.explain.token_list:TokenListExplainer",
    "output_centric": "lakeinterp.explain.output_centric:OutputCentricExplainer",
    "both_views": "lakeinterp.explain.both_views:BothViewsExplainer",
    "best_of_k": "lakeinterp.explain.best_of_k:BestOfKExplainer",
    "iterative": "lakeinterp.explain.iterative:IterativeExplainer",
    "pattern": "lakeinterp.explain.pattern:PatternExplainer",
    "none": "lakeinterp.explain.none:NoExplainer",
    "loaded": "lakeinterp.explain.loaded:LoadedExplainer",
    "borrowed": "lakeinterp.explain.borrowed:BorrowedExplainer",
    "random": "lakeinterp.explain.random_other:RandomExplainer",
    "constant": "lakeinterp.explain.constant:ConstantExplainer",
}
SCORERS = {
    "detection": "lakeinterp.score.detection:DetectionScorer",
    "recall": "lakeinterp.score.detection:DetectionScorer",
    "fuzzing": "lakeinterp.score.fuzzing:FuzzingScorer",
    "fuzzing_texts": "lakeinterp.score.fuzzing:FuzzingTextsScorer",
    "fuzzing_neighbours": "lakeinterp.score.fuzzing:FuzzingNeighboursScorer",
    "intruder": "lakeinterp.score.intruder:IntruderScorer",
    "simulation": "lakeinterp.score.simulation:SimulationScorer",
    "pattern": "lakeinterp.score.pattern:PatternScorer",
    "embedding": "lakeinterp.score.embedding:EmbeddingScorer",
    "example_embedding": "lakeinterp.score.example_embedding:ExampleEmbeddingScorer",
    "surprisal": "lakeinterp.score.surprisal:SurprisalScorer",
    "sensitivity": "lakeinterp.score.sensitivity:SensitivityScorer",
    "intervention": "lakeinterp.score.intervention:InterventionScorer",
}
_TABLES: dict[Kind, dict[str, str]] = {"explainer": EXPLAINERS, "scorer": SCORERS}


def names(kind: Kind) -> dict[str, str]:
    """Return every known name of a kind with its `module:attribute`, own names first."""
    own = _TABLES[kind]
    others = {e.name: e.value for e in entry_points(group=f"lakeinterp.{kind}s")}
    return own | {name: target for name, target in others.items() if name not in own}


def resolve(kind: Kind, name: str) -> Any:
    """Import and return what `name` stands for.

    Raises:
        NotFound: no explainer or scorer has this name; the message lists the known ones.
        ConfigError: the entry point does not import.
    """
    # Looking through what is installed takes 50 ms, and never changes a name of this package.
    known = _TABLES[kind] if name in _TABLES[kind] else names(kind)
    if name not in known:
        raise NotFound(kind, name, known)
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"{kind} {name!r} ({known[name]}) cannot be loaded: {exc}") from exc
