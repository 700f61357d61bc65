"""Reading numbers out of replies: one that is chosen, and one for each token.

As in `lakeinterp.chat.parse`: pure functions, tolerant of form, strict about content. Whatever the
text, the result has the asked shape or `UnparsableReply` is raised, and nothing else.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from lakeinterp.chat.parse import answer_of, json_values, last_answer
from lakeinterp.errors import UnparsableReply

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEEP = 3
"""Objects within objects that are looked into."""
_CHOICE_KEYS = ("answer", "choice", "response", "result", "number", "index")
_PLAIN = re.compile(
    r"^[\s*#>\[]*(?:(?:the )?(?:answer|choice|response|result|intruder|odd one(?: out)?)[\]*]*"
    r"\s*(?::|=|is)?\s*)?(?:text|example|number|no\.|#)*\s*[\[(*\"'#]*(\d{1,4})[\])*\"'.]*\s*$",
    re.I | re.M,
)
_ANYWHERE = re.compile(r"(?<![\w.,-])(\d{1,4})(?![\w%]|[.,]\d)")
_DECIMAL = re.compile(r"(?<![\w.,])(-?\d{1,9}(?:\.\d{1,9})?)(?![\w%]|[.,]\d)")
_TOKEN_KEYS = ("token", "number", "index", "position", "id", "n")
_VALUE_KEYS = ("activation", "value", "strength", "prediction")
_LIST_KEYS = ("activations", "values", "predictions", "result", "tokens")
_LINE = re.compile(
    r"^[\s*-]*(\d{1,4})[\s*]*[:.)\t][^\n]*?(?:[:=\t]|->|\s)[\s*]*(-?\d+(?:\.\d+)?)[\s*]*$|"
    r"^[\s*-]*(\d{1,4})[\s*]*[:=\t][\s*]*(-?\d+(?:\.\d+)?)[\s*]*$",
    re.M,
)


def parse_choice(text: str, n: int, field: str) -> int:
    """Return the one of `n` numbered items that a reply names, from 1.

    Understands `{"FIELD": 3}`, `[3]`, `3`, `Text 3`, `[RESPONSE]: 3` and a text that names no other
    number.

    Args:
        text: The reply.
        n: How many items there are.
        field: Key under which the number is asked for.

    Raises:
        UnparsableReply: no number, more than one, or none from 1 to `n`.
    """
    answer = answer_of(text)
    named = list(_said(answer, field))
    if not named:
        anywhere = {int(row[1]) for row in _ANYWHERE.finditer(answer)}
        named = [(0, 0, number) for number in anywhere] if len(anywhere) == 1 else []
    if not named:
        raise UnparsableReply(f"the reply does not name one number from 1 to {n}", text)
    choice: int = last_answer(named, answer)
    if not 1 <= choice <= n:
        raise UnparsableReply(f"expected a number from 1 to {n}, found {choice}", text)
    return choice


def _said(answer: str, field: str) -> list[tuple[int, int, int]]:
    """Return start, end and number of each answer: of objects, else of lines, else of lists."""
    held = [(a, b, value, _choice(value, field)) for a, b, value in json_values(answer)]
    chosen = [(a, b, c, isinstance(value, dict)) for a, b, value, c in held if c is not None]
    objects = [(a, b, c) for a, b, c, is_object in chosen if is_object]
    lines = [(*row.span(), int(row[1])) for row in _PLAIN.finditer(answer)]
    return objects or lines or [(a, b, c) for a, b, c, _ in chosen]


def _choice(value: object, field: str, depth: int = 0) -> int | None:
    """Return the number that a JSON value names, None if it names none."""
    if isinstance(value, dict) and depth < _DEEP:
        plain = {str(key).strip().lower(): inner for key, inner in value.items()}
        for key in (field.lower(), *_CHOICE_KEYS):
            if key in plain:
                return _choice(plain[key], field, depth + 1)
        return None
    if isinstance(value, list):
        return _choice(value[0], field, _DEEP) if len(value) == 1 else None
    number = _number(value)
    if number is None and isinstance(value, str) and (digits := re.findall(r"\d{1,4}", value)):
        number = float(digits[0]) if len(digits) == 1 else None
    return int(number) if number is not None and number == int(number) else None


def parse_number(text: str, most: float) -> float:
    """Return the one number that a reply gives: `7`, `{"activation": 7}`, `Activation: 7`.

    Args:
        text: The reply.
        most: The largest it may be; the smallest is 0.

    Raises:
        UnparsableReply: no number, more than one, or one off the scale.
    """
    answer = answer_of(text)
    held = [v for *_, inner in json_values(answer) if (v := _one_value(inner)) is not None]
    written = held or [float(row[1]) for row in _DECIMAL.finditer(answer)]
    if len(set(written)) != 1:
        problem = "more than one number" if written else "no number"
        raise UnparsableReply(f"expected a number from 0 to {most:g}, found {problem}", text)
    if not 0 <= written[0] <= most:
        raise UnparsableReply(f"expected a number from 0 to {most:g}, found {written[0]:g}", text)
    return written[0]


def _one_value(value: object) -> float | None:
    if isinstance(value, dict):
        return _number(_first(value, _VALUE_KEYS))
    return _number(value[0]) if isinstance(value, list) and len(value) == 1 else None


def parse_activations(text: str, n: int, most: float) -> tuple[float, ...]:
    """Return one activation for each of `n` tokens; a token that is not named has 0.

    Understands `{"activations": [{"token": 3, "activation": 7}]}`, `{"activations": {"3": 7}}`, a
    list of exactly `n` numbers, bare or under such a key, and lines `3: 7`.

    Args:
        text: The reply.
        n: Tokens of the window, numbered from 1.
        most: Largest activation on the scale; the smallest is 0.

    Raises:
        UnparsableReply: none of these; a token twice, or one that is not there; an activation off
            the scale.
    """
    answer = answer_of(text)
    values = [(a, b, _activations(value, n, most)) for a, b, value in json_values(answer)]
    if not values:
        rows = [(*r.span(), (r[1] or r[3], r[2] or r[4])) for r in _LINE.finditer(answer)]
        pairs = [pair for _, _, pair in rows]
        values = [(rows[0][0], rows[-1][1], _of_pairs(pairs, n, most))] if rows else []
    read = [(a, b, found) for a, b, found in values if isinstance(found, tuple)]
    if not read:
        problems = [found for _, _, found in values if isinstance(found, str)]
        raise UnparsableReply(problems[-1] if problems else "the reply has no activations", text)
    kept: tuple[float, ...] = last_answer(read, answer)
    return kept


def _activations(
    value: object, n: int, most: float, depth: int = 0
) -> tuple[float, ...] | str | None:
    """Return the activations that a JSON value holds, what is wrong with them, or None."""
    if isinstance(value, dict):
        plain = {str(key).strip().lower(): inner for key, inner in value.items()}
        inner = next((plain[k] for k in _LIST_KEYS if isinstance(plain.get(k), list | dict)), None)
        if inner is not None:
            if not inner:
                return (0.0,) * n
            return _activations(inner, n, most, depth + 1) if depth < _DEEP else None
        return _of_pairs(list(plain.items()), n, most) if _are_numbered(plain) else None
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, dict) for item in value):
        pairs = [(_first(item, _TOKEN_KEYS), _first(item, _VALUE_KEYS)) for item in value]
        if len(value) == n and all(_number(token) is None for token, _ in pairs):
            pairs = [(i, inner) for i, (_, inner) in enumerate(pairs, start=1)]
        return _of_pairs(pairs, n, most)
    if len(value) != n:
        return f"expected {n} activations, the reply holds {len(value)}"
    return _of_pairs(list(enumerate(value, start=1)), n, most)


def _are_numbered(plain: dict[str, Any]) -> bool:
    return bool(plain) and all(key.isdecimal() for key in plain)


def _of_pairs(
    pairs: Sequence[tuple[object, object]], n: int, most: float
) -> tuple[float, ...] | str:
    found: dict[int, float] = {}
    for token, value in pairs:
        number, activation = _number(token), _number(value)
        if number is None or number != int(number) or not 1 <= number <= n:
            return f"expected tokens from 1 to {n}, found {_shown(token)}"
        if activation is None or not 0 <= activation <= most:
            return f"expected activations from 0 to {most:g}, found {_shown(value)}"
        if int(number) in found:
            return f"token {int(number)} has two activations"
        found[int(number)] = activation
    return tuple(found.get(i, 0.0) for i in range(1, n + 1))


def _first(item: dict[str, Any], keys: Sequence[str]) -> object:
    plain = {str(key).strip().lower(): inner for key, inner in item.items()}
    return next((plain[key] for key in keys if key in plain), None)


def _shown(value: object) -> str:
    """Return a value as a reason shows it; a nested one only as what it is."""
    is_plain = value is None or isinstance(value, int | float | str)
    return repr(value)[:40] if is_plain else f"a {type(value).__name__}"


def _number(value: object) -> float | None:
    """Return a finite number, also one written as a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value) if len(str(value)) < 20 else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
