"""Deployments as they stand in one run: key, price, limits, rest, and what they refused."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakeinterp.chat.prices import Price, price_of
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from lakeinterp.chat.types import Request, RouteName
    from lakeinterp.config import ChatConfig, Deployment, RouteConfig

_NO_MODEL = """chat.{route}.deployments: no language model is configured; write for example
[chat.explainer]
deployments = [{{model = "hosted_vllm/NAME", api_base = "http://localhost:8000/v1"}}]"""


@dataclass(slots=True, eq=False)
class Target:
    """One deployment and what was learnt about it."""

    path: str
    """Setting that holds it, for example `chat.judge.deployments[0]`; also its Router name."""
    deployment: Deployment
    key: str | None = field(repr=False)
    price: Price = field(default_factory=lambda: Price("unknown"))
    gate: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)
    """Admits `max_concurrency` calls at one time."""
    rests_until: float = 0.0
    """Of the monotonic clock; set when the provider limits the rate."""
    refused: set[str] = field(default_factory=set)
    """Features it does not know: `schema`, `logprobs`, `seed`; it is asked without them."""

    def __post_init__(self) -> None:
        if self.deployment.max_concurrency is not None:
            self.gate = asyncio.Semaphore(self.deployment.max_concurrency)

    @property
    def key_hint(self) -> str:
        """Where its key comes from, in words."""
        if (name := self.deployment.api_key_env) is not None:
            return f"check the environment variable {name}"
        return f"name the variable that holds it in {self.path}.api_key_env"

    def rest(self, seconds: float) -> None:
        """Leave it alone for a while."""
        self.rests_until = max(self.rests_until, time.monotonic() + seconds)

    def parameters(self) -> dict[str, Any]:
        """Return `litellm_params` of the Router for this deployment.

        A given address gets the named key or none at all: LiteLLM would send the account's usual
        key, for example `$OPENAI_API_KEY`, to whatever address stands there.
        """
        found: dict[str, Any] = {"model": self.deployment.model, "max_retries": 0}
        if self.deployment.api_base is not None:
            found |= {"api_base": self.deployment.api_base, "api_key": self.key or "none"}
        elif self.key is not None:
            found["api_key"] = self.key
        return found


@dataclass(frozen=True, slots=True)
class Route:
    """The deployments that answer one kind of request."""

    deployments: tuple[Target, ...]
    fallbacks: tuple[Target, ...]

    @property
    def targets(self) -> tuple[Target, ...]:
        """All of them, fallbacks last."""
        return self.deployments + self.fallbacks


def model_of(config: ChatConfig, route: RouteName) -> str:
    """Return the model that a route's replies are kept under: its first deployment's.

    Adding replicas, weights, prices or fallbacks leaves it as it is, so stored replies stay
    valid; to buy anew with another model, put that model first.

    Raises:
        ConfigError: the route has no deployment.
    """
    return _settings(config, route)[1].deployments[0].model


def routes_of(config: ChatConfig) -> dict[RouteName, Route]:
    """Return the configured routes; an empty judge route is the explainer's.

    Raises:
        ConfigError: no route has a deployment, a key's variable is not set, or only one of two
            prices is given.
    """
    found: dict[RouteName, Route] = {}
    made: dict[str, Route] = {}
    names: tuple[RouteName, ...] = ("explainer", "judge")
    for name in names:
        if not (config.explainer.deployments or getattr(config, name).deployments):
            continue
        path, settings = _settings(config, name)
        if path not in made:
            made[path] = Route(
                _targets(f"{path}.deployments", settings.deployments),
                _targets(f"{path}.fallbacks", settings.fallbacks),
            )
        found[name] = made[path]
    if not found:
        raise ConfigError(_NO_MODEL.format(route="explainer"))
    return found


def learn_prices(targets: Sequence[Target], table: Mapping[str, tuple[float, float]]) -> None:
    """Set every target's price; `table` is LiteLLM's, by model."""
    for target in targets:
        target.price = price_of(target.deployment, table.get(target.deployment.model))


def choose(targets: Sequence[Target], waits: Mapping[Target, float], dice: random.Random) -> Target:
    """Return the target to ask: one that need not wait, by weight, else the first to be ready.

    Args:
        targets: At least one.
        waits: Until when this call leaves a target alone; of the monotonic clock.
        dice: Decides between those that are ready.
    """
    now = time.monotonic()
    ready = [t for t in targets if ready_at(t, waits) <= now]
    if ready:
        return dice.choices(ready, [t.deployment.weight for t in ready])[0]
    return min(targets, key=lambda t: ready_at(t, waits))


def ready_at(target: Target, waits: Mapping[Target, float]) -> float:
    """Return when a target may be asked by a call; of the monotonic clock."""
    return max(target.rests_until, waits.get(target, 0.0))


def features_of(request: Request, structured: str) -> set[str]:
    """Return what a request asks for that a deployment may not know.

    Args:
        request: What is asked.
        structured: `ChatConfig.structured`.
    """
    found = {
        "schema": request.schema is not None and structured != "never",
        "logprobs": request.top_logprobs > 0,
        "seed": request.seed is not None,
    }
    return {name for name, is_asked in found.items() if is_asked}


def _settings(config: ChatConfig, route: RouteName) -> tuple[str, RouteConfig]:
    own: RouteConfig = getattr(config, route)
    if own.deployments:
        return f"chat.{route}", own
    if not config.explainer.deployments:
        raise ConfigError(_NO_MODEL.format(route=route))
    return "chat.explainer", config.explainer


def _targets(path: str, deployments: Sequence[Deployment]) -> tuple[Target, ...]:
    return tuple(_target(f"{path}[{i}]", d) for i, d in enumerate(deployments))


def _target(path: str, deployment: Deployment) -> Target:
    if (deployment.input_cost_per_token is None) != (deployment.output_cost_per_token is None):
        raise ConfigError(f"{path}: give both input_cost_per_token and output_cost_per_token")
    key = None
    if deployment.api_key_env is not None:
        key = os.environ.get(deployment.api_key_env, "").strip()
        if not key:
            raise ConfigError(
                f"{path}.api_key_env: the environment variable {deployment.api_key_env} is not set"
            )
    return Target(path, deployment, key)
