"""Lists of latents: what a person asks for, as an address and as values of `web/listing`."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.report.records import Explanation, Score
from lakeinterp.web.shelf import PLACES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.web.shelf import Shelf

SORTS = {
    "best": "best score",
    "worst": "worst score",
    "low": "lower bound",
    "corrected": "corrected score",
    "p": "p value",
    "width": "narrowest interval",
    "density": "most frequent",
    "rare": "least frequent",
    "max": "max activation",
    "number": "number",
}
"""Orders of a list and what they are called."""
_N_WORDS = 4
_START, _END = (-math.inf, -(2**62)), (math.inf, 2**62)
_NUMBERS = ("density_low", "density_high", "score_low", "score_high", "width_high", "p_high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a list is asked for; every field is one of the address's."""

    capture: str = ""
    q: str = ""
    """Words, all to be found; in quotes several as one."""
    hookpoint: str = ""
    pair: int = 0
    """Of the shelf's pairs of explainer and scorer."""
    status: str = ""
    density_low: float | None = None
    density_high: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    width_high: float | None = None
    p_high: float | None = None
    sort: str = "best"
    after: str = ""
    """Key and place of the latent before the page."""
    before: str = ""
    """Key and place of the latent behind the page; `end` for the last page."""

    @classmethod
    def read(cls, values: Mapping[str, str]) -> Ask:
        """Read an address's fields; those without a value are as if they were not there.

        Raises:
            ConfigError: a field is no number, or there is no such order.
        """
        known = {f.name for f in fields(cls)}
        found: dict[str, Any] = {k: v.strip() for k, v in values.items() if k in known}
        found = {name: value for name, value in found.items() if value}
        for name in _NUMBERS:
            if name in found:
                found[name] = _number(name, found[name])
        found["pair"] = int(_number("pair", found.get("pair", "0")))
        if found.get("sort", "best") not in SORTS:
            raise NotFound("order", found["sort"], SORTS)
        return cls(**found)

    def address(self, **changes: Any) -> str:
        """Return the address of this list with some fields changed."""
        changed = replace(self, **changes)
        given = {
            f.name: getattr(changed, f.name)
            for f in fields(self)
            if getattr(changed, f.name) != f.default
        }
        return "/?" + urlencode(given)

    @property
    def is_filtered(self) -> bool:
        """Whether any of the rarer filters is set."""
        return bool(self.status) or any(getattr(self, name) is not None for name in _NUMBERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One latent of a list."""

    hookpoint: str
    latent: int
    status: str
    density: float | None
    max: float | None
    explanation: Explanation | None
    score: Score | None
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of a list."""

    lines: tuple[Line, ...]
    n_matching: int
    first: int
    """Number of the first line among those that match; 1 is the first of all."""
    next: str | None
    """Address of the next page, None on the last one."""
    previous: str | None


def listing(shelf: Shelf, ask: Ask, n_rows: int) -> Listing:
    """Return one page of a list of latents.

    Args:
        shelf: Of the capture.
        ask: What is asked for.
        n_rows: Latents on a page.

    Raises:
        NotFound: no such hookpoint.
        ConfigError: no such pair, or a place in the list that is none.
    """
    sign = -1 if ask.before else 1
    rows = shelf.rows("web/listing", **_values(shelf, ask, sign), n_rows=n_rows + 1)
    n_matching, n_passed = rows[0]["n_matching"], rows[0]["n_passed"]
    there = [row for row in rows if row["place"] is not None]
    has_more, there = len(there) > n_rows, there[:n_rows]
    if sign < 0:
        there.reverse()
    first = n_passed + 1 if sign > 0 else n_matching - n_passed - len(there) + 1
    # Going backwards, what was passed lies behind the page.
    has_next, has_previous = (has_more, n_passed > 0) if sign > 0 else (n_passed > 0, has_more)
    following = _cursor(there[-1], sign) if has_next and there else None
    leading = _cursor(there[0], sign) if has_previous and there else None
    return Listing(
        lines=_lines(shelf, ask, there),
        n_matching=n_matching,
        first=first,
        next=following and ask.address(after=following, before=""),
        previous=leading and ask.address(before=leading, after=""),
    )


def _values(shelf: Shelf, ask: Ask, sign: int) -> dict[str, Any]:
    """Return the values of `web/listing` for a list."""
    if not 0 <= ask.pair < len(shelf.pairs):
        raise ConfigError(f"pair: there are {len(shelf.pairs)}, numbered from 0")
    if ask.hookpoint and ask.hookpoint not in shelf.hookpoints:
        raise NotFound("hookpoint", ask.hookpoint, shelf.hookpoints)
    first = shelf.place(ask.hookpoint, 0) if ask.hookpoint else 0
    last = first + PLACES - 1 if ask.hookpoint else 2**62
    cursor = ask.before if sign < 0 else ask.after
    key, turn = _place(cursor, _END if sign < 0 else _START)
    return {
        "pair": ask.pair,
        "first_place": first,
        "last_place": last,
        "statuses": [ask.status] if ask.status else [],
        **{name: getattr(ask, name) for name in _NUMBERS},
        **{f"word_{i}": word for i, word in enumerate(_words(ask.q), 1)},
        "sort": ask.sort,
        "sign": sign,
        "after_key": sign * key,
        "after_turn": sign * turn,
    }


def _lines(shelf: Shelf, ask: Ask, rows: list[dict[str, Any]]) -> tuple[Line, ...]:
    pair = shelf.pairs[ask.pair]
    texts = {r["place"]: r for r in shelf.rows("web/shown", places=[r["place"] for r in rows])}
    return tuple(
        _line(shelf, row, texts.get(row["place"]), pair.explainer, pair.scorer) for row in rows
    )


def _line(
    shelf: Shelf, row: dict[str, Any], text: dict[str, Any] | None, explainer: str, scorer: str
) -> Line:
    hookpoint, latent = shelf.latent(row["place"])
    said = (text or {}).get("said") or ()
    mine = next((one for one in said if one["explainer"] == explainer), None)
    score = Score(
        scorer=scorer,
        metric=shelf.reader.metric,
        status=row["score_status"],
        **{name: row[name] for name in _SCORE},
    )
    return Line(
        hookpoint=hookpoint,
        latent=latent,
        status=row["status"],
        density=row["density"],
        max=row["max"],
        explanation=mine and Explanation(explanation="", sample=None, **mine),
        score=score if row["score_status"] else None,
        tokens=tuple(
            shelf.vocabulary.text([one["token_id"]]) for one in (text or {}).get("tokens") or ()
        ),
    )


_SCORE = ("value", "ci_low", "ci_high", "n", "n_failed", "null_value", "corrected", "p_value")


def _words(text: str) -> list[str]:
    """Return at most four words or quoted phrases, filled up with empty ones."""
    try:
        found = shlex.shlex(text, posix=True, punctuation_chars=False)
        found.whitespace_split, found.commenters, found.quotes, found.escape = True, "", '"', ""
        words = list(found)
    except ValueError:
        words = text.split()
    words = [word for word in words if word]
    if len(words) > _N_WORDS:
        words = [*words[: _N_WORDS - 1], " ".join(words[_N_WORDS - 1 :])]
    return words + [""] * (_N_WORDS - len(words))


def _cursor(row: dict[str, Any], sign: int) -> str:
    return f"{(sign * row['key']).hex()}_{row['place']}"


def _place(cursor: str, default: tuple[float, int]) -> tuple[float, int]:
    if not cursor or cursor == "end":
        return default
    key, _, place = cursor.partition("_")
    try:
        return float.fromhex(key), int(place)
    except (ValueError, OverflowError):
        raise ConfigError(f"{cursor!r} is no place in a list") from None


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{name.replace('_', ' ')}: {text!r} is no number")
    return value
