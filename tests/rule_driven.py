"""A language model that follows rules: it explains and judges the planted words without error."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

_MARKED = re.compile(r"(\S*)\s*<<\s*(\S+?)\s*>>")
_NUMBERED = re.compile(r"^\d+: (.*)$", re.MULTILINE)


def answer(body: dict[str, Any]) -> str:
    """Answer a request of the shipped prompts: a description, or a label for every text."""
    asked = body["messages"][-1]["content"]
    if "What does the unit respond to?" in asked:
        return json.dumps({"explanation": describe(asked)})
    description = asked.partition("Description: ")[2].partition("\n")[0]
    texts = _NUMBERED.findall(asked.partition("Texts:")[2])
    fits = marks_fit if "<<" in asked else fits_somewhere
    return json.dumps({"labels": [int(fits(description, text)) for text in texts]})


def describe(passages: str) -> str:
    """Say which word is marked, or which word stands before the marked ones."""
    pairs = [(b, w) for line in _NUMBERED.findall(passages) for b, w in _MARKED.findall(line)]
    ((word, n_word),) = Counter(w for _, w in pairs).most_common(1)
    ((before, n_before),) = Counter(b for b, _ in pairs if b).most_common(1)
    return f"the word {word}" if n_word >= n_before else f"any word after {before}"


def fits_somewhere(description: str, text: str) -> bool:
    """Whether a text holds a place that the description fits."""
    words = text.split()
    return any(
        _fits(description, before, word) for before, word in zip(["", *words], words, strict=False)
    )


def marks_fit(description: str, text: str) -> bool:
    """Whether most marked words are places that the description fits."""
    found = [_fits(description, before, word) for before, word in _MARKED.findall(text)]
    return sum(found) * 2 > len(found)


def _fits(description: str, before: str, word: str) -> bool:
    if description.startswith("any word after "):
        return before.strip("<>") == description.removeprefix("any word after ")
    return word == description.removeprefix("the word ")
