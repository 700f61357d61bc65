"""From LiteLLM's response to our `Reply`, and from a `Reply` to a row of the lake and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lakeinterp.chat.failures import Failure
from lakeinterp.chat.gaps import gaps_of
from lakeinterp.chat.prices import usage_of
from lakeinterp.chat.types import Reply, TokenLogprobs
from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.chat.prices import Price
    from lakeinterp.chat.types import ReplyStatus, Request


def reply_of(
    response: Any,
    *,
    request: Request,
    key: str,
    model: str,
    price: Price,
    latency_s: float,
    attempts: int,
) -> Reply | Failure:
    """Return what a provider answered, or a failure if it is no reply at all."""
    choice = response.choices[0] if response.choices else None
    if choice is None:
        return _broken("a reply without choices")
    special = getattr(choice, "provider_specific_fields", None) or {}
    if special.get("native_finish_reason") in ("error", "network_error"):
        return _broken("the provider failed in the middle of the reply")
    status, reason, text = _outcome(choice)
    gaps = gaps_of(getattr(response, "prompt_logprobs", None), request)
    if gaps is not None and status in ("truncated", "refused"):
        status, reason = "ok", ""  # Nothing was to be said.
    usage = usage_of(getattr(response, "usage", None), request)
    cost_usd, cost_state = price.cost(usage)
    return Reply(
        key=key,
        status=status,
        text=text,
        reason=reason,
        logprobs=_logprobs(choice),
        gaps=gaps,
        finish_reason=choice.finish_reason,
        model_requested=model,
        model_served=response.model,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        cost_usd=cost_usd,
        cost_state=cost_state,
        latency_s=latency_s,
        attempts=attempts,
    )


def _broken(reason: str) -> Failure:
    return Failure(
        status="http_error", reason=reason, again=True, elsewhere=True, billed=True, is_strike=True
    )


def _outcome(choice: Any) -> tuple[ReplyStatus, str, str | None]:
    """Return status, reason and text of a choice."""
    text = choice.message.content
    special = getattr(choice.message, "provider_specific_fields", None) or {}
    refusal = special.get("refusal") or getattr(choice.message, "refusal", None)
    if choice.finish_reason == "content_filter":
        return "refused", "the provider's content filter stopped the reply", text or None
    if refusal:
        return "refused", f"the model declined: {str(refusal)[:200]}", None
    if choice.finish_reason == "length":
        return "truncated", "the reply was cut at max_tokens", text or None
    if text is None or not text.strip():
        return "refused", "the reply is empty", None
    return "ok", "", text


def _logprobs(choice: Any) -> tuple[TokenLogprobs, ...] | None:
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    if not content:
        return None
    return tuple(
        TokenLogprobs(
            token=entry.token,
            logprob=float(entry.logprob),
            top=tuple((top.token, float(top.logprob)) for top in entry.top_logprobs or ()),
        )
        for entry in content
    )


def row_of(request: Request, reply: Reply) -> dict[str, Any]:
    """Return the row of the `replies` table; it holds no secret and no lone surrogate."""
    logprobs = None
    if reply.gaps is not None:
        logprobs = json.dumps({"gaps": reply.gaps})
    elif reply.logprobs is not None:
        logprobs = json.dumps([[t.token, t.logprob, t.top] for t in reply.logprobs])
    return {
        "key": reply.key,
        "request": json.dumps(request.as_json(), ensure_ascii=False),
        "text": reply.text,
        "logprobs": logprobs,
        "finish_reason": reply.finish_reason,
        "model_requested": reply.model_requested,
        "model_served": reply.model_served,
        "route": request.route,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "cost_usd": reply.cost_usd,
        "cost_state": reply.cost_state,
        "latency_s": reply.latency_s,
        "attempts": reply.attempts,
        "status": reply.status,
        "reason": reply.reason,
        "created_at": now(),
    }


def added_up(row: dict[str, Any], replaced: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with what is known of the cost of the failed one whose place it takes."""
    states = {row["cost_state"], replaced["cost_state"]}
    known = [cost for cost in (row["cost_usd"], replaced["cost_usd"]) if cost is not None]
    state = next(state for state in ("unknown", "priced", "free") if state in states)
    return row | {"cost_state": state, "cost_usd": sum(known) if known else None}


REPLY_COLUMNS = (
    "key",
    "text",
    "logprobs",
    "finish_reason",
    "model_requested",
    "model_served",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "cost_state",
    "latency_s",
    "attempts",
    "status",
    "reason",
)
"""Columns of `replies` that a `Reply` is made from."""


def reply_from(row: Mapping[str, Any]) -> Reply:
    """Return the reply a row holds."""
    values = {column: row[column] for column in REPLY_COLUMNS}
    kept = values.pop("logprobs")
    found = [] if kept is None else json.loads(kept)
    if isinstance(found, dict):
        gaps = tuple(tuple((t, q) for t, q in top) for top in found["gaps"])
        return Reply(**values, gaps=gaps)
    logprobs = tuple(
        TokenLogprobs(token=token, logprob=p, top=tuple((t, q) for t, q in top))
        for token, p, top in found
    )
    return Reply(**values, logprobs=None if kept is None else logprobs)
