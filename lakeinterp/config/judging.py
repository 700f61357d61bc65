"""Settings of explainers and scorers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lakeinterp.config.section import Positive, Section, Share


class ExplainConfig(Section):
    """Which explainer, and what it shows the model."""

    explainer: str = "pattern"
    """Name in the registry: `pattern` needs no language model, `default` asks one."""
    show_activations: bool = True
    """List the activating tokens with their strengths under each example."""
    chain_of_thought: bool = False
    """Ask for reasoning before the explanation."""
    highlight_above: Share = 0.3
    """Tokens above this share of the example's peak are delimited."""
    n_shown: Positive = 40
    """Examples of the explain role shown to the model, strongest first."""
    max_tokens: Positive = 500
    """Longest reply."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the explainer."""
    prompts: str | None = None
    """Folder whose `explain/*.md` replace the shipped prompts."""


class ScoreConfig(Section):
    """Which scorers, and what they compare with."""

    scorers: tuple[str, ...] = ("pattern",)
    """Names in the registry: `pattern` needs no language model; `detection` and `fuzzing` do."""
    items_per_prompt: Positive = 5
    """Items a judge sees in one call."""
    n_borrowed: Annotated[int, Field(ge=0)] = 4
    """Explanations of other latents judged on the same items: the null."""
    null_share: Share = 1.0
    """Share of the latents that get a null, a choice by `sampling.seed`."""
    headline: str = "balanced_accuracy"
    """The metric that reports sort by."""
    highlight_above: Share = 0.3
    """Tokens above this share of the example's peak are delimited in fuzzing."""
    max_tokens: Positive = 500
    """Longest reply."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the judge."""
    prompts: str | None = None
    """Folder whose `score/*.md` replace the shipped prompts."""
