"""Reading what a model said: tolerant of form, strict about content.

Pure functions; run again over stored replies they cost nothing. Models fence, chat, number,
think aloud and run on into examples of their own: of several answers the last counts. Whatever
the text, the result has the asked shape or `UnparsableReply` is raised, and nothing else.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from lakeinterp.errors import UnparsableReply

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRUE, _FALSE = {"1", "1.0", "true", "yes", "y"}, {"0", "0.0", "false", "no", "n"}
_LABEL = r"(?:[01](?:\.0)?|true|false|yes|no|y|n)"
_LIST_KEYS = ("labels", "answers", "predictions", "result", "results", "answer", "output")
_ITEM_KEYS = ("label", "answer", "prediction", "active", "result", "value")
_NUMBER_KEYS = ("example", "index", "item", "id", "number")
_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)```", re.DOTALL)
_FLAT_LIST = re.compile(r"\[([^\[\]{}]*)\]")
_ROW = re.compile(
    rf"^(?:[^:\n]{{0,40}}:)?[\s*`\"']*({_LABEL}(?:[,;\s]+{_LABEL})*)[\s.*`\"']*$", re.I
)
_NUMBERED = re.compile(
    rf"^[\s*#>-]*(?:example|item|text|sentence|sequence)?\s*#?(\d{{1,4}})"
    rf"(?:[\s*]*[:=)][\s*]*|\.\s+[\s*]*|\s+-+\s+)[\"']?({_LABEL})(?![\w.])",
    re.I,
)
_HEADER = r"\[[A-Z][A-Z _]{2,}\]"
_NEXT_HEADER = re.compile(
    rf"{_HEADER}\s*:|\n\s*{_HEADER}|\n\s*\n|\n\s*(?i:example|input|note)\b[^\n]{{0,20}}:"
)
_DECODER = json.JSONDecoder(strict=False)


def parse_json(text: str) -> object:
    """Return the JSON value of a reply: all of it, or what is fenced, or the first inside it.

    Raises:
        UnparsableReply: there is none.
    """
    answer = _answer(text)
    for candidate in (answer, *reversed(_FENCE.findall(answer))):
        try:
            return _loads(candidate)
        except ValueError:
            continue
    for _, _, value in _values(answer):
        return value
    raise UnparsableReply("the reply holds no JSON", text)


def parse_labels(text: str, n: int) -> list[bool]:
    """Return exactly `n` labels, in the order of the items.

    Understands `[1, 0]`, `{"labels": [true, false]}` (also `answers`, `predictions`, `result`),
    `{"1": "yes", "2": "no"}`, a list of objects, a bare `1, 0`, and numbered lines.

    Raises:
        UnparsableReply: no such answer, or only ones of another length.
    """
    found = sorted(_all_labels(_answer(text)), key=lambda at: at[0])
    for _, labels in reversed(found):
        if len(labels) == n:
            return labels
    held = str(len(found[-1][1])) if found else "none"
    raise UnparsableReply(f"expected {n} labels, the reply holds {held}", text)


def parse_field(text: str, field: str) -> str:
    """Return a named text: a JSON object's field, or what follows `FIELD:` or `[FIELD]:`.

    A text ends at a blank line, at the next bracketed header or where the model runs on into
    another example. Of several the last counts.

    Raises:
        UnparsableReply: the field is not there or is empty.
    """
    answer = _answer(text)
    said = [v for _, _, value in _values(answer) if (v := _field(value, field))]
    if not said:
        said = [v for v in _after_headers(answer, field) if v]
    if not said:
        raise UnparsableReply(f"the reply has no {field}", text)
    return said[-1]


def _answer(text: str) -> str:
    """Return what comes after the model's thinking."""
    before, mark, after = text.rpartition("</think>")
    if not mark and before == "" and after.lstrip().startswith("<think>"):
        raise UnparsableReply("the reply ends while the model is thinking", text)
    if not after.strip():
        raise UnparsableReply("the reply is empty", text)
    return after.strip()


def _loads(text: str) -> object:
    try:
        return json.loads(text, strict=False, parse_constant=_no_constant)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Yield start, end and value of the objects and arrays in a text; Python's literals pass."""
    at = 0
    while (start := _next_bracket(text, at)) >= 0:
        try:
            value, at = _DECODER.raw_decode(text, start)
        except RecursionError:
            return
        except ValueError:
            at = start + 1
            if flat := _FLAT_LIST.match(text, start):
                at = flat.end()
                if (value := _literal(flat)) is not None:
                    yield start, at, value
            continue
        yield start, at, value


def _next_bracket(text: str, at: int) -> int:
    return min((i for i in (text.find("{", at), text.find("[", at)) if i >= 0), default=-1)


def _literal(flat: re.Match[str]) -> object | None:
    """Return a list in Python's or no particular notation, None if it is no list of values."""
    try:
        return list(ast.literal_eval(flat[0]))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        words = [w.strip(" \t\n\"'") for w in flat[1].split(",")]
        return words if all(_label(w) is not None for w in words) else None


def _label(value: object) -> bool | None:
    """Return a label, None if the value is none."""
    if isinstance(value, bool):
        return value
    said = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    return True if said in _TRUE else False if said in _FALSE else None


def _labels(value: object) -> list[bool] | None:
    """Return the labels a JSON value stands for, None if it stands for none."""
    if isinstance(value, dict):
        for key in _LIST_KEYS:
            if isinstance(inner := value.get(key), list | dict):
                return _labels(inner)
        return _by_number(list(value.items()))
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, dict) for item in value):
        return _labels_of_items(value)
    labels = [_label(item) for item in value]
    return None if None in labels else [bool(label) for label in labels]


def _labels_of_items(items: list[dict[str, Any]]) -> list[bool] | None:
    """Return the labels of `[{"example": 1, "label": true}, …]`, by number if they have one."""
    pairs = []
    for position, item in enumerate(items, start=1):
        number = next((item[k] for k in _NUMBER_KEYS if k in item), position)
        pairs.append((number, next((item[k] for k in _ITEM_KEYS if k in item), None)))
    return _by_number(pairs)


def _by_number(pairs: list[tuple[Any, Any]]) -> list[bool] | None:
    """Return labels in the order of their numbers, which must be 1 to n or 0 to n - 1."""
    labels: dict[int, bool] = {}
    for name, value in pairs:
        number, label = re.search(r"(\d{1,4})\s*$", str(name)[:100]), _label(value)
        if number is None or label is None or int(number[1]) in labels:
            return None
        labels[int(number[1])] = label
    if sorted(labels) not in (list(range(1, len(labels) + 1)), list(range(len(labels)))):
        return None
    return [labels[i] for i in sorted(labels)] or None


def _all_labels(text: str) -> Iterator[tuple[int, list[bool]]]:
    """Yield each run of labels in a text with the place where it ends."""
    plain = text
    for start, end, value in _values(text):
        plain = plain[:start] + re.sub(r"[^\n]", " ", plain[start:end]) + plain[end:]
        if (labels := _labels(value)) is not None:
            yield end, labels
    run: list[tuple[int, str]] = []
    end = 0
    for line in plain.splitlines(keepends=True):
        end += len(line)
        if row := _ROW.match(line.strip()):
            yield end, [bool(_label(word)) for word in re.findall(_LABEL, row[1], re.I)]
        if numbered := _NUMBERED.match(line):
            if run and int(numbered[1]) <= run[-1][0]:
                run = []
            run.append((int(numbered[1]), numbered[2]))
            if (labels := _by_number([*run])) is not None:
                yield end, labels


def _field(value: object, field: str) -> str:
    if not isinstance(value, dict):
        return ""
    for key, inner in value.items():
        if key.strip().lower() == field.lower() and isinstance(inner, str):
            return _tidy(inner)
    return ""


def _after_headers(text: str, field: str) -> Iterator[str]:
    name = re.escape(field)
    header = re.compile(rf"\[\s*{name}\s*\][*_ \t]*:?|^[\s*#>_-]*{name}[*_ \t]*:", re.I | re.M)
    for match in header.finditer(text):
        rest = text[match.end() :].lstrip(" \t\r\n*_:")
        yield _tidy(_NEXT_HEADER.split(rest, maxsplit=1)[0])


def _tidy(text: str) -> str:
    """Return a text without the spaces, quotes and stars around it."""
    text = " ".join(text.split())
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`*_":
        text = text[1:-1].strip()
    return text
