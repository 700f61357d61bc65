"""How long a provider asks to wait, in the many ways in which providers say it.

| header | value | who |
|---|---|---|
| `retry-after` | seconds, or an HTTP date | most |
| `retry-after-ms` | milliseconds | OpenAI, Azure |
| `x-ratelimit-reset-requests`, `-tokens` | `6m0s`, `12ms`, or seconds | OpenAI, Groq |
| `anthropic-ratelimit-requests-reset` | a time, RFC 3339 | Anthropic |
| `x-ratelimit-reset` | milliseconds or seconds since 1970, or seconds | OpenRouter, others |

A reset whose `remaining` is above zero is not what limits, and is passed over.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_RESET = re.compile(r"(?P<before>.*ratelimit-)(?:reset(?P<after>-.+)?|(?P<kind>.+)-reset)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|d|h|m|s))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_UNITS |= {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_IN_TEXT = re.compile(
    r"x-ratelimit-reset[\"'\s:\\]+(\d{9,13})\b|try again in ((?:\d+(?:\.\d+)?(?:ms|h|m|s))+)", re.I
)
_A_DATE = 1e9
_A_DATE_IN_MS = 1e11


def asked_wait(headers: Mapping[str, str], *, only_spent: bool = False) -> float | None:
    """Return the wait in seconds that response headers ask for, None if they ask for none.

    Args:
        headers: Of a response; names in any case, with or without LiteLLM's `llm_provider-`.
        only_spent: Look only at limits of which nothing remains, as with a reply that was given.
    """
    low = {name.lower().removeprefix("llm_provider-"): str(v) for name, v in headers.items()}
    if not only_spent:
        if (said := _number(low.get("retry-after-ms"))) is not None:
            return max(0.0, said / 1e3)
        if "retry-after" in low:
            return seconds(low["retry-after"])
    waits = [seconds(low[name]) for name in low if _limits(name, low, only_spent=only_spent)]
    return max((wait for wait in waits if wait is not None), default=None)


def _limits(name: str, headers: Mapping[str, str], *, only_spent: bool) -> bool:
    """Whether a header is the reset of a limit that is, or may be, used up."""
    if "ratelimit" not in name or (found := _RESET.fullmatch(name)) is None:
        return False
    kind = found["kind"]
    other = f"{found['before']}{kind}-remaining" if kind else None
    left = _number(headers.get(other or f"{found['before']}remaining{found['after'] or ''}"))
    return not only_spent if left is None else left == 0


def wait_in_text(said: str) -> float | None:
    """Return the wait that an error message asks for, None if it asks for none."""
    found = _IN_TEXT.search(said)
    return None if found is None else seconds(found[1] or found[2])


def seconds(value: str) -> float | None:
    """Return a wait from a number, a duration, a date or a time; None if it is none of these."""
    value = value.strip()
    if (number := _number(value)) is not None:
        if number >= _A_DATE_IN_MS:
            number = number / 1e3 - time.time()
        elif number >= _A_DATE:
            number -= time.time()
        return max(0.0, number)
    if _DURATION.fullmatch(value):
        return sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(value))
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            at = read(value)
        except (TypeError, ValueError):
            continue
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0.0, (at - datetime.now(UTC)).total_seconds())
    return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None
