"""From the log-probabilities of a reply's tokens to the probability of each label in it.

Labels are found in the text by the reader that also judges it, then the token that begins each
label is looked up. Tokenizers differ in what they put into that token (`1`, ` 1`, `[1`, `Ġ1`,
`▁true`, `<0x31>`) and providers in how they write it, so tokens are first made plain.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from lakeinterp.chat.parse import FALSE_WORDS, TRUE_WORDS, find_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakeinterp.chat.types import Reply, TokenLogprobs

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BYTES = re.compile(r"\\x([0-9A-Fa-f]{2})")
_MARKS = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "ĉ": "\t"})
_AROUND = " \t\r\n[](){}\"'`*,:"
_WORD = re.compile(r"[0-9A-Za-z]*")
LEAST_MASS = 0.5
"""Of a token's probability that must lie on labels for a label to have one."""


def label_probabilities(reply: Reply, n: int) -> list[float | None]:
    """Return the probability that each of `n` labels is true, given that it is a label.

    Args:
        reply: With or without log-probabilities.
        n: Labels expected.

    Returns:
        One value an item, in their order. None where it cannot be said: the reply has no
        log-probabilities, its tokens do not spell its text, two labels share a token, or less
        than half of the probability lies on labels.

    Raises:
        UnparsableReply: the reply's text does not hold `n` labels.
    """
    labels = find_labels(reply.text or "", n)
    if not reply.logprobs or labels.spans is None:
        return [None] * n
    for plain in (_as_it_is, _plain):
        tokens = [plain(entry.token) for entry in reply.logprobs]
        joined = "".join(tokens)
        if (at := _place(joined, reply.text or "", labels.start, labels.end)) is not None:
            starts = [0, *accumulate(len(token) for token in tokens)]
            places = [at + a for a, _ in labels.spans]
            return _all(reply.logprobs, tokens, starts, places, plain)
    return [None] * n


def _place(joined: str, text: str, start: int, end: int) -> int | None:
    """Return what to add to a place in the text to have it in the joined tokens."""
    found = joined.rfind(text.strip())
    if found >= 0:
        return found - (len(text) - len(text.lstrip()))
    # What was thought before, or bytes of half a character, may spell otherwise.
    found = joined.rfind(text[start:end])
    return found - start if found >= 0 and end - start > 1 else None


def _all(
    entries: Sequence[TokenLogprobs],
    tokens: Sequence[str],
    starts: Sequence[int],
    places: Sequence[int],
    plain: Callable[[str], str],
) -> list[float | None]:
    numbers = [bisect_right(starts, place) - 1 for place in places]
    found: list[float | None] = []
    for number, place in zip(numbers, places, strict=True):
        if numbers.count(number) > 1:
            found.append(None)
            continue
        before = tokens[number][: place - starts[number]]
        found.append(_one(entries[number], before, plain))
    return found


def _one(entry: TokenLogprobs, before: str, plain: Callable[[str], str]) -> float | None:
    """Return the probability of true at one token; `before` is the token's part ahead of it."""
    choices = dict(entry.top) | {entry.token: entry.logprob}
    mass = {True: 0.0, False: 0.0}
    for token, logprob in choices.items():
        label = _begins(plain(token), before)
        if label is not None and not math.isnan(logprob):
            mass[label] += math.exp(min(0.0, logprob))
    total = mass[True] + mass[False]
    return mass[True] / total if total >= LEAST_MASS else None


def _begins(token: str, before: str) -> bool | None:
    """Return the label that a token begins, None if it begins none."""
    if before.strip(_AROUND):
        if not token.startswith(before):
            return None
        token = token[len(before) :]
    found = _WORD.match(token.lstrip(_AROUND))
    word = found[0].lower() if found else ""
    if not word:
        return None
    is_true = any(label.startswith(word) for label in TRUE_WORDS)
    is_false = any(label.startswith(word) for label in FALSE_WORDS)
    return is_true if is_true != is_false else None


def _as_it_is(token: str) -> str:
    return token


def _plain(token: str) -> str:
    """Return a token's text where a tokenizer's own notation was sent."""
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)]).decode("latin-1")
    if token.startswith("bytes:"):
        raw = bytes(int(code, 16) for code in _BYTES.findall(token))
        return raw.decode("utf-8", "replace")
    return token.translate(_MARKS)
