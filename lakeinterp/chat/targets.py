"""Deployments as they stand in one run: key, price, limits, rest, and what they refused."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from lakeinterp.chat.circuit import Circuit
from lakeinterp.chat.limits import Limits
from lakeinterp.chat.prices import Price, price_of
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

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
    headers: dict[str, str] = field(repr=False)
    limits: Limits
    circuit: Circuit
    price: Price = field(default_factory=lambda: Price("unknown"))
    rests_until: float = 0.0
    """Of the monotonic clock; set when the provider limits the rate."""
    refused: set[str] = field(default_factory=set)
    """Features it does not know: `schema`, `logprobs`, `gaps`, `seed`; it is asked without them."""
    known: set[str] = field(default_factory=set)
    """Features it was asked for and did not refuse."""
    tried: set[str] = field(default_factory=set)
    """Features it was asked for at least once."""
    probe: asyncio.Event | None = None
    """While one call tries features for the first time; set when it is done."""
    left_out: set[str] = field(default_factory=set)
    """Of `logprobs` and `gaps`, what its replies came without."""

    @property
    def secrets(self) -> list[str]:
        """Texts that must never be shown: key, headers of the environment, the address's own."""
        hidden = [self.headers[name] for name in self.deployment.headers_env]
        password = urlsplit(self.deployment.api_base or "").password or ""
        return [s for s in (self.key, *hidden, password, unquote(password)) if s]

    @property
    def key_hint(self) -> str:
        """Where its key comes from, in words."""
        if (name := self.deployment.api_key_env) is not None:
            return f"check the environment variable {name}"
        return f"name the variable that holds it in {self.path}.api_key_env"

    def rest(self, seconds: float) -> None:
        """Leave it alone for a while."""
        self.rests_until = max(self.rests_until, time.monotonic() + seconds)

    @contextmanager
    def trying(self, features: set[str]) -> Iterator[None]:
        """Mark a call that is the first with some feature: others with it wait for `probe`."""
        if features <= self.tried or self.probe is not None:
            yield
            return
        self.probe = asyncio.Event()
        try:
            yield
        finally:
            self.tried |= features
            self.probe.set()
            self.probe = None

    def parameters(self) -> dict[str, Any]:
        """Return `litellm_params` of the Router for this deployment.

        A given address gets the named key or none at all: LiteLLM would send the account's usual
        key, for example `$OPENAI_API_KEY`, to whatever address stands there.
        """
        found: dict[str, Any] = {"model": self.deployment.model, "max_retries": 0}
        # Prices are ours: without explicit ones LiteLLM searches its tables at every call, 2 ms.
        found |= {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
        if self.deployment.api_base is not None:
            found |= {"api_base": self.deployment.api_base, "api_key": self.key or "none"}
        elif self.key is not None:
            found["api_key"] = self.key
        if self.headers:
            found["extra_headers"] = self.headers
        if self.deployment.body:
            found["extra_body"] = self.deployment.body
        return found


@dataclass(frozen=True, slots=True)
class Route:
    """The deployments that answer one kind of request."""

    deployments: tuple[Target, ...]
    fallbacks: tuple[Target, ...]
    limits: Limits
    """Of all of them together."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """All of them, fallbacks last."""
        return self.deployments + self.fallbacks


def model_of(config: ChatConfig, route: RouteName) -> str:
    """Return the model that a route's replies are kept under: its first deployment's.

    Adding replicas, weights, prices, limits or fallbacks leaves it as it is, so stored replies
    stay valid; to buy anew with another model, put that model first. What the first deployment
    sends besides, its `body`, is part of it as a digest.

    Raises:
        ConfigError: the route has no deployment.
    """
    return _settings(config, route)[1].deployments[0].name


def routes_of(config: ChatConfig) -> dict[RouteName, Route]:
    """Return the configured routes; an empty judge route is the explainer's.

    Raises:
        ConfigError: no route has a deployment, a key's variable is not set, an own server has no
            address, or only one of two prices is given.
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
                _targets(f"{path}.deployments", settings.deployments, config),
                _targets(f"{path}.fallbacks", settings.fallbacks, config),
                _limits(settings),
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
    free = [t for t in ready if t.limits.wait_s() <= 0] if len(ready) > 1 else ready
    if ready := free or ready:
        return dice.choices(ready, [t.deployment.weight for t in ready])[0]
    hopeful = [t for t in targets if not t.circuit.is_hopeless(now)]
    return min(hopeful or targets, key=lambda t: ready_at(t, waits))


def ready_at(target: Target, waits: Mapping[Target, float]) -> float:
    """Return when a target may be asked by a call; of the monotonic clock."""
    return max(target.rests_until, target.circuit.open_until, waits.get(target, 0.0))


def features_of(request: Request, structured: str) -> set[str]:
    """Return what a request asks for that a deployment may not know.

    Args:
        request: What is asked.
        structured: `ChatConfig.structured`.
    """
    found = {
        "schema": request.schema is not None and structured != "never",
        "logprobs": request.top_logprobs > 0 and not request.gap,
        "gaps": request.gap != "",
        "seed": request.seed is not None,
    }
    return {name for name, is_asked in found.items() if is_asked}


def arguments(
    request: Request, target: Target, features: set[str], timeout_s: float
) -> dict[str, Any]:
    """Return what `Router.acompletion` is called with.

    Args:
        request: What is asked.
        target: Who is asked.
        features: Of the request, those that the target is asked for.
        timeout_s: Of the HTTP client.
    """
    wanted: dict[str, Any] = {
        "model": target.path,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "timeout": timeout_s,
        "num_retries": 0,
        "max_retries": 0,
    }
    if "seed" in features:
        wanted["seed"] = request.seed
    if "schema" in features:
        schema = {"name": "reply", "schema": request.schema, "strict": True}
        wanted["response_format"] = {"type": "json_schema", "json_schema": schema}
    if "logprobs" in features:
        wanted |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if "gaps" in features:
        asked = {"prompt_logprobs": request.top_logprobs}
        wanted["extra_body"] = {**target.deployment.body, **asked}
    return wanted


def _settings(config: ChatConfig, route: RouteName) -> tuple[str, RouteConfig]:
    own: RouteConfig = getattr(config, route)
    if own.deployments:
        return f"chat.{route}", own
    if not config.explainer.deployments:
        raise ConfigError(_NO_MODEL.format(route=route))
    return "chat.explainer", config.explainer


def _limits(settings: Deployment | RouteConfig) -> Limits:
    return Limits(
        settings.max_concurrency, settings.requests_per_minute, settings.tokens_per_minute
    )


def _targets(
    path: str, deployments: Sequence[Deployment], config: ChatConfig
) -> tuple[Target, ...]:
    return tuple(_target(f"{path}[{i}]", d, config) for i, d in enumerate(deployments))


def _target(path: str, deployment: Deployment, config: ChatConfig) -> Target:
    if (deployment.input_cost_per_token is None) != (deployment.output_cost_per_token is None):
        raise ConfigError(f"{path}: give both input_cost_per_token and output_cost_per_token")
    _require_address(path, deployment)
    key = None
    if deployment.api_key_env is not None:
        key = _secret(f"{path}.api_key_env", deployment.api_key_env)
    hidden = {
        name: _secret(f"{path}.headers_env.{name}", variable)
        for name, variable in deployment.headers_env.items()
    }
    circuit = Circuit(
        opens_after=config.circuit_failures,
        first_rest_s=config.circuit_s,
        outage_s=config.outage_s,
        probe_s=config.timeout_s,
    )
    headers = {**deployment.headers, **hidden}
    return Target(path, deployment, key, headers, _limits(deployment), circuit)


def _require_address(path: str, deployment: Deployment) -> None:
    """Refuse an own server without an address: LiteLLM would send its prompts to OpenAI."""
    given = deployment.api_base or os.environ.get("HOSTED_VLLM_API_BASE", "").strip()
    if deployment.model.startswith("hosted_vllm/") and not given:
        raise ConfigError(
            f"{path}: {deployment.model} has no address; set {path}.api_base, for example to "
            "http://localhost:8000/v1, or the environment variable HOSTED_VLLM_API_BASE"
        )


def _secret(setting: str, variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"{setting}: the environment variable {variable} is not set")
    return value
