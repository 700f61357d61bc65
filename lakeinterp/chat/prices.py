"""What a call costs, in three states: priced, free, unknown.

- `priced`: the provider returned the cost (OpenRouter does), or the deployment has
  `input_cost_per_token` and `output_cost_per_token`, or LiteLLM's table knows the model.
- `free`: nobody is paid by the token: the model runs on a server of one's own, that is
  `hosted_vllm/…` and the like, or `openai/…` at an address on this machine, and no price is known.
- `unknown`: everything else, and a priced deployment that did not count its tokens.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from lakeinterp.chat.types import CostState, Request
    from lakeinterp.config import Deployment

_OWN_SERVERS = {"hosted_vllm", "vllm", "ollama", "ollama_chat", "llamafile", "lm_studio"}
_ANY_SERVERS = {"openai", "custom_openai", "openai_like"}
_MESSAGE_TOKENS = 16
_ABSURD_TOKENS = 100_000
_ABSURD_USD = 1000.0


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token of one deployment."""

    state: CostState
    input: float = 0.0
    output: float = 0.0

    def most(self, request: Request, n_bytes: int) -> float | None:
        """Return the most that a request can cost, None if the price is not known.

        Args:
            request: What is asked.
            n_bytes: Its `prompt_bytes`; they bound its tokens.
        """
        if self.state == "unknown":
            return None
        return n_bytes * self.input + request.max_tokens * self.output

    def cost(self, usage: Usage) -> tuple[float | None, CostState]:
        """Return what a call did cost, and how far that is known."""
        if usage.cost_usd is not None:
            return usage.cost_usd, "priced"
        if self.state == "free":
            return 0.0, "free"
        if self.state == "unknown" or usage.prompt is None or usage.completion is None:
            return None, "unknown"
        return usage.prompt * self.input + usage.completion * self.output, "priced"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call and its cost, each None if the provider did not say."""

    prompt: int | None = None
    completion: int | None = None
    cost_usd: float | None = None


def price_of(deployment: Deployment, known: tuple[float, float] | None) -> Price:
    """Return a deployment's price.

    Args:
        deployment: With or without prices of its own, which come first.
        known: Input and output price of LiteLLM's table, None if it does not know the model.
    """
    own = deployment.input_cost_per_token, deployment.output_cost_per_token
    if own[0] is not None and own[1] is not None:
        return Price("priced", own[0], own[1])
    provider = deployment.model.partition("/")[0]
    if provider in _OWN_SERVERS:
        return Price("free")
    if known is not None:
        return Price("priced", *known)
    is_own = provider in _ANY_SERVERS and _is_this_machine(deployment.api_base)
    return Price("free" if is_own else "unknown")


def prompt_bytes(request: Request) -> int:
    """Return the bytes of a prompt, and some for each turn's marks; no token is less than one."""
    n_bytes = sum(len(m.content.encode()) + _MESSAGE_TOKENS for m in request.messages)
    return n_bytes + (len(json.dumps(request.schema)) if request.schema else 0)


def usage_of(reported: Any, request: Request) -> Usage:
    """Return what a provider reported, without what cannot be.

    LiteLLM turns a missing usage into zeros; no prompt has zero tokens. Nor has one many times
    more tokens than bytes, a reply many times more than were allowed (some count what was thought
    besides), or a call the price of a machine: such numbers are no numbers.
    """
    prompt = _count(getattr(reported, "prompt_tokens", None))
    completion = _count(getattr(reported, "completion_tokens", None))
    paid = _dollars(getattr(reported, "cost", None))
    if not prompt or completion is None or completion > _ABSURD_TOKENS + 10 * request.max_tokens:
        return Usage(None, None, paid)
    if prompt > _ABSURD_TOKENS + 2 * prompt_bytes(request):
        return Usage(None, None, paid)
    return Usage(prompt, completion, paid)


def _dollars(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < _ABSURD_USD else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _is_this_machine(api_base: str | None) -> bool:
    host = urlsplit(api_base or "").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
