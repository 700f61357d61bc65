"""The explain room: from a latent's examples to a sentence, one row of `explanations` a latent."""

from lakeinterp.explain.evidence import Evidence
from lakeinterp.explain.explainer import Explainer, Series, explain, explain_unit

__all__ = ["Evidence", "Explainer", "Series", "explain", "explain_unit"]
