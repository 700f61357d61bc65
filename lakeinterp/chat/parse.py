"""Reading what a model said: tolerant of form, strict about content.

Pure functions; run again over stored replies they cost nothing. Models fence, chat, number,
think aloud and run on: of several answers the last counts that stands before the model begins a
task of its own, which is where another of the prompt's headings follows an answer. Whatever the
text, the result has the asked shape or `UnparsableReply` is raised, and nothing else; time grows
with the length of the text.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from lakeinterp.errors import UnparsableReply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TRUE_WORDS, FALSE_WORDS = {"1", "1.0", "true", "yes", "y"}, {"0", "0.0", "false", "no", "n"}
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
_TASK = (
    r"(?:(?:input|question|user|human|task)s?"
    r"|(?:new |next |test |other )?(?:text|passage|example)s?"
    r"|(?:(?:latent|neuron|feature|unit) )?(?:explanation|description))"
)
_NEW_TASK = re.compile(
    rf"^[\s*#>\[]*(?:{_TASK}[\]*]*[ ]*:|example[ ]+\d+[ ]*:?[ *]*$)", re.I | re.M
)
"""A heading of the prompt after an answer: what follows is invented."""
_NEW_EXAMPLE = re.compile(
    rf"^[\s*#>\[]*(?:example|passage|text|input)s?[ ]*\d*[\]*]*[ ]*:|{_NEW_TASK.pattern}",
    re.I | re.M,
)
_VALUE = re.compile(rf"(?<=[\[,:\s])[\"']?({_LABEL})[\"']?(?=\s*[,\]}}])", re.I)
_BRACKET = re.compile(r"[\[{]")
MAX_CHARACTERS = 1_000_000
"""No answer is longer; what is, is not read."""
_WORD = re.compile(_LABEL, re.I)
_CHOICES = re.compile(
    r"^(?:[^:\n]{0,40}:)?[\s*`\"'\[]*(\d{1,4}(?:(?:[,;\s]|\band\b)+\d{1,4})*|none|\[\s*\])"
    r"[\s.*`\"'\]]*$",
    re.I | re.M,
)
_DECODER = json.JSONDecoder(strict=False)


def parse_json(text: str) -> object:
    """Return the JSON value of a reply: all of it, or what is fenced, or the first inside it.

    Raises:
        UnparsableReply: there is none.
    """
    _, answer = _answer(text)
    for candidate in (answer, *reversed(_FENCE.findall(answer))):
        try:
            return _loads(candidate)
        except ValueError:
            continue
    for _, _, value in _values(answer):
        return value
    raise UnparsableReply("the reply holds no JSON", text)


@dataclass(frozen=True, slots=True)
class Labels:
    """One run of labels in a text."""

    start: int
    end: int
    values: list[bool]
    spans: tuple[tuple[int, int], ...] | None = None
    """Where each label stands, None if that is not certain."""


def parse_labels(text: str, n: int) -> list[bool]:
    """Return exactly `n` labels, in the order of the items.

    Understands `[1, 0]`, `{"labels": [true, false]}` (also `answers`, `predictions`, `result`),
    `{"1": "yes", "2": "no"}`, a list of objects, a bare `1, 0`, and numbered lines.

    Raises:
        UnparsableReply: no such answer, or only ones of another length.
    """
    return find_labels(text, n).values


def find_labels(text: str, n: int) -> Labels:
    """Return `parse_labels` with the place of the labels in the text.

    Raises:
        UnparsableReply: as `parse_labels`.
    """
    offset, answer = _answer(text)
    found = sorted(_all_labels(answer), key=lambda at: at.end)
    right = [(at.start, at.end, at) for at in found if len(at.values) == n]
    if not right:
        held = str(len(found[-1].values)) if found else "none"
        raise UnparsableReply(f"expected {n} labels, the reply holds {held}", text)
    last: Labels = _last_before(right, answer, _NEW_TASK)
    spans = last.spans and tuple((a + offset, b + offset) for a, b in last.spans)
    return Labels(last.start + offset, last.end + offset, last.values, spans)


def parse_choices(text: str, n: int) -> list[bool]:
    """Return which of `n` numbered items a reply names: `2, 5, 7`, `[2, 5]`, `none`.

    Raises:
        UnparsableReply: no such list, a number twice, or one that is no item's.
    """
    _, answer = _answer(text)
    lists = [[int(x) for x in re.findall(r"\d{1,9}", row[1])] for row in _CHOICES.finditer(answer)]
    if not lists:
        raise UnparsableReply("the reply names no items and does not say none", text)
    chosen = lists[-1]
    if len(set(chosen)) < len(chosen) or not all(1 <= i <= n for i in chosen):
        raise UnparsableReply(f"expected different numbers from 1 to {n}, found {chosen}", text)
    return [i in chosen for i in range(1, n + 1)]


def parse_field(text: str, field: str) -> str:
    """Return a named text: a JSON object's field, or what follows `FIELD:` or `[FIELD]:`.

    A text ends at a blank line, at the next bracketed header or where the model runs on into
    another example. Of several the last counts that no such example stands before.

    Raises:
        UnparsableReply: the field is not there or is empty.
    """
    _, answer = _answer(text)
    said = [(a, b, v) for a, b, value in _values(answer) if (v := _field(value, field))]
    if not said:
        said = [found for found in _after_headers(answer, field) if found[2]]
    if not said:
        raise UnparsableReply(f"the reply has no {field}", text)
    value: str = _last_before(said, answer, _NEW_EXAMPLE)
    return value


def answer_of(text: str) -> str:
    """Return what comes after the model's thinking.

    Raises:
        UnparsableReply: nothing comes after it, or more than any answer has.
    """
    return _answer(text)[1]


def json_values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Yield start, end and value of the JSON objects and arrays in a text."""
    return _values(text)


def last_answer(found: Iterable[tuple[int, int, Any]], text: str) -> Any:
    """Return the last value that stands before the model begins a task of its own.

    Args:
        found: Start, end and value of each answer in the text, in their order.
        text: As `answer_of` returns it.
    """
    return _last_before(found, text, _NEW_TASK)


def _last_before(
    found: Iterable[tuple[int, int, Any]], text: str, new_task: re.Pattern[str]
) -> Any:
    """Return the last of some answers with no new task between it and the one before."""
    kept: Any = None
    end = 0
    for start, next_end, value in found:
        if kept is not None and new_task.search(text[end:start]):
            break
        kept, end = value, next_end
    return kept


def _answer(text: str) -> tuple[int, str]:
    """Return what comes after the model's thinking, and where it begins."""
    if len(text) > MAX_CHARACTERS:
        raise UnparsableReply(f"the reply has {len(text):,} characters; no answer is so long", text)
    before, mark, after = text.rpartition("</think>")
    if not mark and after.lstrip().startswith("<think>"):
        raise UnparsableReply("the reply ends while the model is thinking", text)
    if not after.strip():
        raise UnparsableReply("the reply is empty", text)
    start = len(before) + len(mark) + len(after) - len(after.lstrip())
    return start, after.strip()


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
    found = _BRACKET.search(text, at)
    return -1 if found is None else found.start()


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
    return True if said in TRUE_WORDS else False if said in FALSE_WORDS else None


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


def _by_number(pairs: Sequence[tuple[Any, Any]]) -> list[bool] | None:
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


def _all_labels(text: str) -> Iterator[Labels]:
    """Yield each run of labels in a text: of JSON, of rows, of numbered lines."""
    plain, at = [], 0
    for start, end, value in _values(text):
        plain += [text[at:start], re.sub(r"[^\n]", " ", text[start:end])]
        at = end
        if (labels := _labels(value)) is not None:
            yield Labels(start, end, labels, _spans(text, start, end, labels))
    plain.append(text[at:])
    yield from _labels_of_lines("".join(plain))


def _spans(
    text: str, start: int, end: int, labels: list[bool]
) -> tuple[tuple[int, int], ...] | None:
    """Return where the labels of a JSON value stand, None unless they are plainly the last ones."""
    found = [match.span(1) for match in _VALUE.finditer(text, start, end)][-len(labels) :]
    return tuple(found) if [_label(text[a:b]) for a, b in found] == labels else None


def _labels_of_lines(text: str) -> Iterator[Labels]:
    run: list[tuple[int, str, int, int]] = []
    """Number, label and place of each line of the numbered run."""
    begun = end = 0
    for line in text.splitlines(keepends=True):
        start, end = end, end + len(line)
        if row := _ROW.match(line.strip()):
            at = start + len(line) - len(line.lstrip()) + row.start(1)
            words = [(m[0], at + m.start(), at + m.end()) for m in _WORD.finditer(row[1])]
            values = [bool(_label(word)) for word, _, _ in words]
            yield Labels(start, end, values, tuple((a, b) for _, a, b in words))
        if numbered := _NUMBERED.match(line):
            number = int(numbered[1])
            if run and number <= run[-1][0]:
                yield from _labels_of_run(begun, run)
                run = []
            begun = begun if run else start
            run.append((number, numbered[2], start + numbered.start(2), start + numbered.end(2)))
    yield from _labels_of_run(begun, run)


def _labels_of_run(start: int, run: list[tuple[int, str, int, int]]) -> Iterator[Labels]:
    """Yield the labels of numbered lines; of all of them, as half an answer is none."""
    if (values := _by_number([line[:2] for line in run])) is not None:
        yield Labels(start, run[-1][3], values, tuple((a, b) for _, _, a, b in run))


def _field(value: object, field: str) -> str:
    if not isinstance(value, dict):
        return ""
    for key, inner in value.items():
        if key.strip().lower() == field.lower() and isinstance(inner, str):
            return _tidy(inner)
    return ""


def _after_headers(text: str, field: str) -> Iterator[tuple[int, int, str]]:
    """Yield each header's start, and the end and text of what stands after it."""
    name = re.escape(field)
    header = re.compile(rf"\[\s*{name}\s*\][*_ \t]*:?|^[\s*#>_-]*{name}[*_ \t]*:", re.I | re.M)
    matches = list(header.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    for match, end in zip(matches, ends, strict=False):
        rest = text[match.end() : end].lstrip(" \t\r\n*_:")
        said = _NEXT_HEADER.split(rest, maxsplit=1)[0]
        yield match.start(), end - len(rest) + len(said), _tidy(said)


def _tidy(text: str) -> str:
    """Return a text without the spaces, quotes and stars around it."""
    text = " ".join(text.split())
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`*_":
        text = text[1:-1].strip()
    return text
