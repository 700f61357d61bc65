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
    "pattern": "lakeinterp.explain.pattern:PatternExplainer",
}
SCORERS = {
    "detection": "lakeinterp.score.detection:DetectionScorer",
    "fuzzing": "lakeinterp.score.fuzzing:FuzzingScorer",
    "pattern": "lakeinterp.score.pattern:PatternScorer",
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
    known = names(kind)
    if name not in known:
        raise NotFound(kind, name, known)
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"{kind} {name!r} ({known[name]}) cannot be loaded: {exc}") from exc
