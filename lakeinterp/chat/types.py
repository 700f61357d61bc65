"""What is asked of a language model, what comes back, and the one method between them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from lakeinterp.terms import Status, digest

RouteName = Literal["explainer", "judge"]
CostState = Literal["priced", "free", "unknown"]
ReplyStatus = Status
"""Of a reply only ok, refused, http_error, timeout, truncated and budget_stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str
    """Any text; control characters and markup stay, see `wellformed` for what does not."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", wellformed(self.content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call, complete: two equal requests have one reply."""

    route: RouteName
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    schema: dict[str, Any] | None = field(default=None, hash=False)
    """JSON schema of the reply; a route that knows none is asked without it."""
    top_logprobs: int = 0
    """Alternatives wanted at each token of the reply; 0 asks for none."""
    repeat: int = 0
    """Tells apart replies wanted more than once, for self-agreement."""
    gap: str = ""
    """A word of the last message: wherever it stands, the `top_logprobs` tokens are wanted that
    the model would rather have put there. Needs a route with log-probabilities of prompts."""

    def key(self, model: str) -> str:
        """Return the digest under which a model's reply to this request is kept."""
        return digest({"model": model, **self.as_json()}, size=16)

    def as_json(self) -> dict[str, Any]:
        """Return the request as JSON-able values; it holds no secret."""
        return {
            "messages": [{"role": m.role, "content": m.content} for m in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "schema": self.schema,
            "top_logprobs": self.top_logprobs,
            "repeat": self.repeat,
            **({"gap": self.gap} if self.gap else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """Log-probabilities at one token of a reply."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens and their natural log-probabilities, likeliest first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "token", wellformed(self.token))
        object.__setattr__(self, "top", tuple((wellformed(t), p) for t, p in self.top))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, or what went wrong: a failure is a status, never a text."""

    key: str
    status: ReplyStatus
    text: str | None
    """None unless the model said something."""
    reason: str = ""
    """One line on a status that is not ok."""
    logprobs: tuple[TokenLogprobs, ...] | None = None
    gaps: tuple[tuple[tuple[str, float], ...], ...] | None = None
    """At each `gap` of the request the likeliest tokens and their log-probabilities; None if the
    route gives none."""
    finish_reason: str | None = None
    model_requested: str = ""
    model_served: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    """What is known of it: all of it, or a part or None when `cost_state` is unknown."""
    cost_state: CostState = "unknown"
    """Of all tries together: unknown if one that failed may be billed as well."""
    latency_s: float = 0.0
    attempts: int = 1
    """Requests sent for it; 0 if none was."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", None if self.text is None else wellformed(self.text))
        object.__setattr__(self, "reason", wellformed(self.reason))
        for name in ("model_served", "finish_reason"):
            if (said := getattr(self, name)) is not None:
                object.__setattr__(self, name, wellformed(str(said)))

    @property
    def n_tokens(self) -> int | None:
        """Tokens of prompt and reply, None if the provider did not count them."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens

    def __str__(self) -> str:
        said = json.dumps(self.text)[:60] if self.text is not None else self.reason
        return f"Reply({self.key[:8]} {self.status}: {said})"


class Chat(Protocol):
    """The one door to language models."""

    async def __call__(self, request: Request) -> Reply:
        """Answer a request. Failures of the provider are statuses of the reply, not exceptions."""
        ...


@runtime_checkable
class NamedChat(Protocol):
    """A chat that says which model it asks; replies are kept under that name."""

    def model(self, route: RouteName) -> str:
        """Return the name of the route's model.

        Raises:
            ConfigError: the route has no model.
        """
        ...


def wellformed(text: str) -> str:
    """Return a text that UTF-8 can carry: surrogate pairs joined, lone surrogates U+FFFD.

    The one place where a prompt or a reply is altered. A token cut in the middle of a character
    can leave a lone surrogate; neither HTTP bodies nor Parquet nor SQLite can hold it.
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
