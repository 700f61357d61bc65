"""Rules over token texts: what the pattern explainer writes and the pattern judge applies.

A rule is a conjunction of conditions on the text of a token and of its neighbours. It needs no
language model and no tokenizer: it reads the texts of the tokens of one window.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from lakeinterp.errors import SchemaError
from lakeinterp.prompts import quote

Test = Literal["token", "word", "prefix", "suffix", "class"]
"""What of a token's text is compared: all of it; the word in any case without the spaces around
it; the word's first or last letters; the kind of text it is."""

AFFIX_LENGTHS = (2, 3, 4)
"""Letters of a prefix or suffix; the word is at least two letters longer."""

CLASSES: dict[str, tuple[str, re.Pattern[str]]] = {
    "capitalised": ("a capitalised word", re.compile(r"\s*[^\W\d_a-z][a-z]+")),
    "upper": ("a word in capitals", re.compile(r"\s*[A-Z]{2,}")),
    "number": ("a number", re.compile(r"\s*\d+")),
    "punctuation": ("punctuation", re.compile(r"\s*[^\w\s]+\s*")),
    "break": ("a line break", re.compile(r"[^\n]*\n(?s:.*)")),
    "space": ("white space within a line", re.compile(r"[^\S\n]+")),
    "start": ("the start of a word", re.compile(r"\s+[^\W\d_](?s:.*)")),
    "part": ("a continued word", re.compile(r"[^\W\d_]+")),
    "foreign": ("text beyond ASCII", re.compile(r"[\x00-\x7f]*[^\x00-\x7f](?s:.*)")),
}
"""Kinds of text: name, the words for it, and the pattern that the whole token fulfils."""

_TESTS: frozenset[str] = frozenset(get_args(Test))


@lru_cache(maxsize=2**16)
def word_of(piece: str) -> str:
    """Return a token's text without the spaces around it and in lower case."""
    return piece.strip().casefold()


@lru_cache(maxsize=2**17)
def keys_of(test: Test, piece: str) -> tuple[str, ...]:
    """Return everything that a test finds in a token's text; none if it does not apply."""
    if test == "token":
        return (piece,) if piece else ()
    if test == "class":
        return tuple(name for name, (_, pattern) in CLASSES.items() if pattern.fullmatch(piece))
    word = word_of(piece)
    if test == "word":
        return (word,) if word else ()
    lengths = [n for n in AFFIX_LENGTHS if len(word) >= n + 2 and word.isalpha()]
    return tuple(word[:n] if test == "prefix" else word[-n:] for n in lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One test at one place, or anywhere in a span before the token."""

    test: Test
    any_of: tuple[str, ...]
    """The condition holds if the test finds one of these."""
    at: int = 0
    """Place of the tested token: 0 is the token itself, -1 the one before, 1 the one after."""
    within: int | None = None
    """Instead of one place: any of this many tokens before the token."""

    def holds(self, pieces: Sequence[str]) -> list[bool]:
        """Return for every token of a window whether the condition holds there."""
        wanted = frozenset(self.any_of)
        found = [not wanted.isdisjoint(keys_of(self.test, piece)) for piece in pieces]
        places = range(len(pieces))
        if self.within is not None:
            return [any(found[max(0, i - self.within) : i]) for i in places]
        return [0 <= i + self.at < len(found) and found[i + self.at] for i in places]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A conjunction of conditions; without any it fires on every token."""

    conditions: tuple[Condition, ...] = ()

    def fires(self, pieces: Sequence[str]) -> list[bool]:
        """Return for every token of a window whether the rule fires there.

        Args:
            pieces: Text of each token of one window, in order.
        """
        fired = [True] * len(pieces)
        for condition in self.conditions:
            fired = [a and b for a, b in zip(fired, condition.holds(pieces), strict=True)]
        return fired

    @property
    def size(self) -> int:
        """Texts named in the rule: its length."""
        return sum(len(condition.any_of) for condition in self.conditions)

    def as_json(self) -> dict[str, Any]:
        """Return the rule as JSON-able values; `from_json` reads them back."""
        return {
            "conditions": [
                {"test": c.test, "any_of": list(c.any_of), "at": c.at, "within": c.within}
                for c in self.conditions
            ]
        }

    @classmethod
    def from_json(cls, value: object) -> Rule:
        """Read a rule back.

        Raises:
            SchemaError: the value is not what `as_json` writes.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("conditions"), list):
            raise SchemaError(f"not a rule: {value!r}; expected {{'conditions': [...]}}")
        return cls(conditions=tuple(_condition(c) for c in value["conditions"]))

    def in_words(self) -> str:
        """Say the rule as a sentence without a stop, for example: fires on `self` after `(`."""
        here = [c for c in self.conditions if c.within is None and c.at == 0]
        before = [c for c in self.conditions if c.within is None and c.at < 0]
        after = [c for c in self.conditions if c.within is None and c.at > 0]
        context = [c for c in self.conditions if c.within is not None]
        subject = " that is ".join(_named(c) for c in here)
        if not subject:
            subject = "any token" if self.conditions else "every token"
        parts = [f"fires on {subject}"]
        parts += [_beside("after", c) for c in before]
        parts += [_beside("before", c) for c in after]
        parts += [f"when {_named(c)} is among the {c.within} tokens before" for c in context]
        return " ".join(parts)


def shown(piece: str) -> str:
    r"""Return a token's text between backticks: line breaks as \n, outer spaces as ␣."""
    inner = piece.strip(" ")
    left = len(piece) - len(piece.lstrip(" ")) if inner else len(piece)
    right = len(piece) - len(inner) - left
    text = quote(inner).replace("`", "\\`")
    return f"`{'␣' * left}{text}{'␣' * right}`"


def _condition(value: object) -> Condition:
    if not isinstance(value, Mapping) or value.keys() != {"test", "any_of", "at", "within"}:
        raise SchemaError(f"not a rule's condition: {value!r}")
    test, any_of, at, within = (value[k] for k in ("test", "any_of", "at", "within"))
    texts = isinstance(any_of, list) and all(isinstance(text, str) for text in any_of)
    places = isinstance(at, int) and (within is None or isinstance(within, int))
    if (
        test not in _TESTS
        or not texts
        or not places
        or (test == "class" and set(any_of) - set(CLASSES))
    ):
        raise SchemaError(f"not a rule's condition: {value!r}")
    return Condition(test=test, any_of=tuple(any_of), at=at, within=within)


def _beside(side: str, condition: Condition) -> str:
    distance = abs(condition.at)
    return (
        f"{side} {_named(condition)}"
        if distance == 1
        else (f"{distance} tokens {side} {_named(condition)}")
    )


def _named(condition: Condition) -> str:
    if condition.test == "class":
        return _listed([CLASSES[name][0] for name in condition.any_of])
    texts = _listed([shown(text) for text in condition.any_of])
    return {
        "token": texts,
        "word": f"the word {texts} in any case",
        "prefix": f"a word that begins with {texts}",
        "suffix": f"a word that ends in {texts}",
    }[condition.test]


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " or " + texts[-1]
