"""Settings of language models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lakeinterp.config.section import Positive, Section


class Deployment(Section):
    """One language model behind an OpenAI-compatible address or a provider LiteLLM knows."""

    model: str
    """LiteLLM name: `hosted_vllm/NAME`, `openrouter/VENDOR/NAME`, `openai/NAME`, …"""
    api_base: str | None = None
    """Address, for example `http://localhost:8000/v1`; None for the provider's own."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself is never stored."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the calls among deployments of one route."""
    max_concurrency: Positive | None = None
    """Calls in flight at one time; None leaves it to `chat.concurrency`."""
    input_cost_per_token: Annotated[float, Field(ge=0)] | None = None
    """US dollars; None takes LiteLLM's price table, and the cost is unknown if it has none."""
    output_cost_per_token: Annotated[float, Field(ge=0)] | None = None
    """US dollars; as above."""


class RouteConfig(Section):
    """Deployments that may answer one kind of request."""

    deployments: tuple[Deployment, ...] = ()
    """Tried by weight."""
    fallbacks: tuple[Deployment, ...] = ()
    """Tried in order when every deployment has failed."""


class ChatConfig(Section):
    """How language models are spoken to."""

    explainer: RouteConfig = RouteConfig()
    """Writes explanations."""
    judge: RouteConfig = RouteConfig()
    """Judges them; empty takes the explainer's route."""
    concurrency: Positive = 32
    """Calls in flight at one time."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for one reply."""
    attempts: Positive = 4
    """Tries of one call, waits between them included in no timeout."""
    retry_wait_s: Annotated[float, Field(ge=0)] = 1.0
    """First wait between tries; doubles, with jitter, and honours Retry-After."""
    structured: Literal["auto", "always", "never"] = "auto"
    """Ask for a JSON schema: `auto` asks, and stops asking a route that refuses it."""
    budget_usd: Annotated[float, Field(ge=0)] | None = None
    """Most US dollars that this lake's replies may cost in all; None is no limit."""
