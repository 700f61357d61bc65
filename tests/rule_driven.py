"""A language model that follows rules: it explains and judges the planted words without error."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

_MARKED = re.compile(r"(\S*)\s*<<\s*(\S+?)\s*>>")
_CITED = re.compile(r'"\s*([^"\s]+)[^"]*"')
_NUMBERED = re.compile(r"^\d+: (.*)$", re.MULTILINE)


def answer(body: dict[str, Any]) -> str:
    """Answer a request of the shipped prompts: a description, or a label for every text."""
    asked = body["messages"][-1]["content"]
    if "Pieces on which the unit was active" in asked:
        return json.dumps({"explanation": f"the word {_CITED.findall(asked)[0]}"})
    if "Tokens after them:" in asked or "make the model say?" in asked:
        return json.dumps({"explanation": f"the word {_CITED.findall(asked)[0]}"})
    if "What does the unit respond to?" in asked or "What is a better explanation?" in asked:
        return json.dumps({"explanation": describe(asked)})
    if "is the intruder?" in asked:
        return json.dumps({"intruder": odd_one(_NUMBERED.findall(asked))})
    description = asked.partition("Description: ")[2].partition("\n")[0]
    if "Give the activations above 0" in asked:
        tokens = [t.strip() for t in _NUMBERED.findall(asked.partition("Tokens:")[2])]
        fitting = [
            i
            for i, pair in enumerate(zip(["", *tokens], tokens, strict=False), start=1)
            if _fits(description, *pair)
        ]
        return json.dumps({"activations": [{"token": i, "activation": 10} for i in fitting]})
    if "Write " in asked:
        n = int(re.search(r"Write (\d+) texts", asked)[1])
        word = description.split()[-1]
        return json.dumps({"texts": [f" it {word} and {word} ran {i}" for i in range(n)]})
    if "Which list" in asked:
        second = asked.partition("List 2: ")[2].partition("\n")[0]
        return json.dumps({"list": 2 if f'" {description.split()[-1]}"' in second else 1})
    texts = _NUMBERED.findall(asked.partition("Texts:")[2])
    fits = marks_fit if "<<" in asked else fits_somewhere
    return json.dumps({"labels": [int(fits(description, text)) for text in texts]})


def describe(passages: str) -> str:
    """Say which word is marked, or which word stands before the marked ones."""
    pairs = [(b, w) for line in _NUMBERED.findall(passages) for b, w in _MARKED.findall(line)]
    if not pairs:
        return "whole passages"
    ((word, n_word),) = Counter(w for _, w in pairs).most_common(1)
    ((before, n_before),) = Counter(b for b, _ in pairs if b).most_common(1)
    return f"the word {word}" if n_word >= n_before else f"any word after {before}"


def odd_one(texts: list[str]) -> int:
    """Say which text, from 1, has other marked words, or others before them, than most."""
    pairs = [_MARKED.findall(text) for text in texts]
    kinds = [{("word", w) for _, w in found} | {("before", b) for b, _ in found} for found in pairs]
    usual = Counter(kind for found in kinds for kind in found)
    fits = [max((usual[kind] for kind in found), default=0) for found in kinds]
    return 1 + fits.index(min(fits))


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
