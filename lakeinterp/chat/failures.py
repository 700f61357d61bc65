"""What went wrong with one call, what it means for the next, and how long to wait.

LiteLLM's exception classes do not tell failures apart (nothing listening is an
`InternalServerError`), so the HTTP status decides, and it counts as the provider's own word only
if response headers came with it. The table of statuses is `_SAYS`.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakeinterp.chat.waits import asked_wait, wait_in_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lakeinterp.chat.types import ReplyStatus

LONGEST_BACKOFF_S = 300.0
_TOLD_S = 60.0
_RETRYABLE = {408, 409, 425, 429}
_ELSEWHERE = {402}
_FEATURES = {
    "schema": re.compile(
        r"response_format|json_?schema|guided|structured[ _]output", re.IGNORECASE
    ),
    "gaps": re.compile(r"prompt_?logprobs", re.IGNORECASE),
    "logprobs": re.compile(r"logprobs", re.IGNORECASE),
    "seed": re.compile(r"\bseed\b", re.IGNORECASE),
}
_POLICY = re.compile(r"content[ _-]?(policy|filter|management)", re.IGNORECASE)
_NO_CREDIT = re.compile(
    r"insufficient[_ ](quota|credit|balance|funds)|current quota", re.IGNORECASE
)
"""Said with 429 by providers that mean 402."""
_CLOSED = {401, 402, 404}
"""As good as down: what is wrong is the account or the address."""
_SHOWN = 200
_MOVED = (
    "the address sends on to another one, where neither prompts nor keys are taken: write the "
    "final one as api_base of {path}"
)
_SAYS = {
    400: "the provider refuses the request",
    401: "the provider does not accept the key: {key}",
    402: "the account has no credit left: add some and run it again",
    403: "the provider forbids this request or this model: {key}",
    404: "no such model or address: see model and api_base of {path}",
    413: "the request is too large for the provider: show fewer or shorter examples",
    422: "the provider refuses the request",
    429: "the provider limits the rate: lower chat.concurrency or set requests_per_minute",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One call that gave no reply."""

    status: ReplyStatus
    reason: str
    again: bool = False
    """Whether the same call may work later."""
    elsewhere: bool = False
    """Whether a fallback may be asked; never for a request that is itself at fault."""
    rest_s: float | None = None
    """The provider asked for this wait, or limits the rate (0: it did not say for how long)."""
    billed: bool = False
    """Whether the provider may want money for it all the same."""
    refuses: str | None = None
    """Feature of the request that the deployment does not know: `schema`, `logprobs`, `seed`."""
    is_strike: bool = False
    """Whether it counts against the deployment: the next request would likely fail as well."""


def failure_of(exc: Exception, *, key_hint: str, path: str, secrets: Iterable[str]) -> Failure:
    """Return what an exception of LiteLLM stands for.

    Args:
        exc: As raised by `Router.acompletion` or while its response was read, or a `TimeoutError`
            of ours.
        key_hint: Says where the key comes from, for example `see $OPENROUTER_API_KEY`.
        path: Setting that holds the deployment.
        secrets: Texts that must not be shown.
    """
    said = _said(exc, secrets)
    if isinstance(exc, TimeoutError):
        return _late(said, billed=True)
    headers: Mapping[str, str] = getattr(exc, "litellm_response_headers", None) or {}
    code = _code(exc)
    if code == 408:
        return _late(said, billed=not headers)
    if code == 400 and _POLICY.search(said):
        return Failure(status="refused", reason=f"content policy: {said}")
    sent_code = code
    if code == 429 and _NO_CREDIT.search(str(exc)):
        code = 402
    meaning = _SAYS.get(code, "").format(key=key_hint, path=path)
    if 300 <= code < 400:
        meaning = _MOVED.format(path=path)
    if not hasattr(exc, "status_code"):
        meaning = f"nothing came that could be read ({type(exc).__name__})"
    again = code in _RETRYABLE or not 300 <= code < 500
    rest_s = _rest_s(code, headers, str(exc)) if again else None
    if rest_s is not None and rest_s > _TOLD_S:
        said = f"{said} (it asks to wait {rest_s:.0f} s)"
    return Failure(
        status="http_error",
        reason=": ".join(filter(None, [str(sent_code) if headers else "", meaning, said])),
        again=again,
        elsewhere=again or code in _ELSEWHERE,
        rest_s=rest_s,
        billed=again and not (headers and code >= 400),
        refuses=_refused_feature(said) if code in (400, 422) else None,
        is_strike=code in _CLOSED or 300 <= code < 400 or (again and code != 429),
    )


def _late(said: str, *, billed: bool) -> Failure:
    return Failure(
        status="timeout", reason=said, again=True, elsewhere=True, billed=billed, is_strike=True
    )


def _rest_s(code: int, headers: Mapping[str, str], said: str) -> float | None:
    """Return the wait that the provider asks for; 0 if it limits the rate and gives no time."""
    asked_s = asked_wait(headers)
    if asked_s is None and code == 429:
        asked_s = wait_in_text(said)
    return 0.0 if asked_s is None and code == 429 else asked_s


def backoff(attempt: int, first_s: float, dice: random.Random) -> float:
    """Return the wait after a failed attempt: doubles from `first_s`, between half and whole."""
    longest = min(LONGEST_BACKOFF_S, first_s * 2.0 ** (attempt - 1))
    return longest * (0.5 + 0.5 * dice.random())


def _code(exc: Exception) -> int:
    code: Any = getattr(exc, "status_code", None)
    try:
        return int(code)
    except (TypeError, ValueError):
        return 500


def _said(exc: Exception, secrets: Iterable[str]) -> str:
    """Return the first line of what the provider said, without its wrapping and our secrets."""
    text = str(exc) or type(exc).__name__
    for secret in secrets:
        text = text.replace(secret, "***")
    if inner := re.search(r'"message":\s*"((?:[^"\\]|\\.)*)"', text):
        text = inner[1]
    text = text.strip().split("\n", 1)[0]
    text = re.sub(r"^litellm\.\w+: |\b\w+(Error|Exception)( - |: )", "", text)
    text = text.removesuffix("Traceback (most recent call last):").rstrip()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _refused_feature(said: str) -> str | None:
    return next((name for name, words in _FEATURES.items() if words.search(said)), None)
