"""Worked examples of a question and its answer, from one prompt file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from lakeinterp.config import ExplainConfig
    from lakeinterp.prompts import Prompt

_PARTS = ["passages", "reasoning", "explanation"]
_HEADING = re.compile(r"^## *(\w+)[ \t]*$", re.MULTILINE)


class Shot(NamedTuple):
    """One worked example."""

    passages: str
    """Numbered lines, with strengths below them if these are shown."""
    answer: str
    """What the model should have replied."""


def shots(prompt: Prompt, config: ExplainConfig) -> list[Shot]:
    """Read worked examples: sections `## passages`, `## reasoning`, `## explanation`, repeated.

    Lines of strengths are left out where none are shown, the reasoning where none is asked for.

    Raises:
        ConfigError: the sections are others, or stand in another order.
    """
    _, *found = _HEADING.split(prompt.text)
    headings, texts = found[::2], [text.strip() for text in found[1::2]]
    if not headings or headings != _PARTS * (len(headings) // len(_PARTS)):
        raise ConfigError(
            f"prompt {prompt.name}: write the sections ## {', ## '.join(_PARTS)} for each worked "
            f"example, in this order; found {headings}"
        )
    triples = zip(texts[::3], texts[1::3], texts[2::3], strict=True)
    return [_shot(*triple, config) for triple in triples]


def _shot(passages: str, reasoning: str, explanation: str, config: ExplainConfig) -> Shot:
    shown = [
        line
        for line in passages.splitlines()
        if config.show_activations or not line.lstrip().startswith("strengths:")
    ]
    answer = json.dumps({"explanation": " ".join(explanation.split())}, ensure_ascii=False)
    if config.chain_of_thought:
        answer = f"{reasoning}\n{answer}"
    return Shot("\n".join(shown), answer)
