"""Lines of a batch file: from a request to its body, from a line of the result to a `Reply`."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from lakeinterp.chat.failures import Failure
from lakeinterp.chat.replies import reply_of
from lakeinterp.chat.targets import arguments, features_of
from lakeinterp.chat.types import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from lakeinterp.chat.batchbook import Batch
    from lakeinterp.chat.prices import Price
    from lakeinterp.chat.targets import Target
    from lakeinterp.chat.types import ReplyStatus, Request

_log = logging.getLogger(__name__)
_SENT = {"max_tokens", "temperature", "seed", "response_format", "logprobs", "top_logprobs"}
"""Of what the Router is given; the rest is how it goes about it."""
_LINES = 500
_UNANSWERED = {"batch_expired", "batch_cancelled"}


def body_of(request: Request, target: Target, structured: str) -> dict[str, Any]:
    """Return the body of a request in its provider's dialect, as LiteLLM would send it."""
    from litellm.utils import get_optional_params

    provider, _, model = target.deployment.model.partition("/")
    wanted = arguments(request, target, features_of(request, structured) - target.refused, 0.0)
    messages = wanted.pop("messages")
    asked = {name: value for name, value in wanted.items() if name in _SENT}
    found = get_optional_params(model=model, custom_llm_provider=provider, **asked)
    extra = (found.pop("extra_body", None) or {}) | wanted.get("extra_body", {})
    found.pop("stream", None)
    return {"model": model, "messages": messages, **found, **extra, **target.deployment.body}


def answered(
    line: bytes, requests: Mapping[str, Request], model: str, price: Price, latency_s: float
) -> Reply | None:
    """Return the reply that a line of an output or error file holds.

    Args:
        line: One JSON object.
        requests: Of the batch, by key; lines of others are passed over.
        model: Name that the reply is kept under.
        price: Of the deployment.
        latency_s: Between the batch's start and its end.

    Returns:
        None if the line says that the request was not answered and shall be sent again.
    """
    try:
        said = json.loads(line)
        key, response, error = said["custom_id"], said.get("response"), said.get("error")
    except (ValueError, TypeError, KeyError, AttributeError):
        _log.warning("a line of the batch's result cannot be read: %r", line[:200])
        return None
    if key not in requests:
        return None
    if error is not None and error.get("code") in _UNANSWERED:
        return None
    outcome = _outcome(response, error, requests[key], key, model, price, latency_s)
    if isinstance(outcome, Reply):
        return outcome
    return Reply(
        key=key,
        status=outcome.status,
        text=None,
        reason=outcome.reason,
        model_requested=model,
        latency_s=latency_s,
        cost_usd=None if outcome.billed else 0.0,
        cost_state="unknown" if outcome.billed else "free",
    )


def _outcome(
    response: Any,
    error: Any,
    request: Request,
    key: str,
    model: str,
    price: Price,
    latency_s: float,
) -> Reply | Failure:
    code = (response or {}).get("status_code")
    body = (response or {}).get("body")
    if error is not None or code != 200:
        status, reason = _refusal(code, body, error)
        return Failure(status=status, reason=reason)
    from litellm import ModelResponse

    try:
        return reply_of(
            ModelResponse(**(body or {})),
            request=request,
            key=key,
            model=model,
            price=price,
            latency_s=latency_s,
            attempts=1,
        )
    except (ValueError, TypeError, AttributeError, KeyError) as exc:
        said = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        return Failure(status="http_error", reason=f"no reply: {said[:200]}", billed=True)


def _refusal(code: Any, body: Any, error: Any) -> tuple[ReplyStatus, str]:
    inner = error or (body.get("error") if isinstance(body, dict) else None) or {}
    said = inner.get("message") if isinstance(inner, dict) else None
    kind = inner.get("code") if isinstance(inner, dict) else None
    reason = ": ".join(str(part) for part in (code, kind, said) if part)[:300]
    if kind in ("content_filter", "content_policy_violation"):
        return "refused", f"content policy: {reason}"
    return "http_error", reason or "the batch has neither a reply nor an error"


def came_to(batch: Batch, replies: Collection[Reply]) -> tuple[float, int]:
    """Return cost and tokens of replies; what is not known counts as the most it can be."""
    usd, tokens = (batch.most_usd or 0.0) / batch.n, batch.most_tokens // batch.n
    return (
        sum(usd if reply.cost_usd is None else reply.cost_usd for reply in replies),
        sum(tokens if reply.n_tokens is None else reply.n_tokens for reply in replies),
    )


def outcome_of(remote: Any) -> str:
    """Return how a batch stands as the provider says it, its first error with it."""
    counts = remote.request_counts
    said = str(remote.status)
    if counts is not None and counts.total:
        said += f", {counts.completed} of {counts.total} answered, {counts.failed} failed"
    errors = getattr(remote.errors, "data", None) or []
    return ": ".join([said, *(str(error.message) for error in errors[:1])])


async def chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[Sequence[bytes]]:
    """Yield the lines of a file, some hundred at a time."""
    rest, lines = b"", []
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        lines += [line for line in whole if line.strip()]
        if len(lines) >= _LINES:
            yield lines
            lines = []
    if rest.strip():
        lines.append(rest)
    if lines:
        yield lines
