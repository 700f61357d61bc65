"""Language models over HTTP, through LiteLLM's `Router`: vLLM, OpenRouter, any provider it knows.

The Router speaks each provider's dialect and keeps the connections. Which deployment is asked is
decided here, one Router name a deployment, because a retry must go elsewhere, an error must name
the setting at fault, and a fallback must never be paid for a request that is itself wrong.
Its own and its client's retries, fallbacks and cool-downs are off: this is the one retry layer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lakeinterp.chat import targets as ways
from lakeinterp.chat.failures import MAX_WAIT_S, Failure, backoff, failure_of
from lakeinterp.chat.replies import reply_of
from lakeinterp.chat.types import Reply
from lakeinterp.errors import BudgetStopped, ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.chat.ledger import Hold, Ledger
    from lakeinterp.chat.targets import Target
    from lakeinterp.chat.types import Request, RouteName
    from lakeinterp.config import ChatConfig

_log = logging.getLogger(__name__)
_open_chats = 0
_counting = threading.Lock()


@dataclass(slots=True)
class _Call:
    """One request on its way."""

    request: Request
    model: str
    key: str
    started: float = field(default_factory=time.monotonic)
    n_sent: int = 0
    waits: dict[Target, float] = field(default_factory=dict)
    """Until when a deployment that just failed this call is left alone by it."""


class LiteLLMChat:
    """Asks the configured deployments; never raises for what a provider does.

    Retries what may work later (timeouts, cut connections, 408, 409, 425, 429, 5xx, bodies that
    are no reply) `attempts` times over the route's deployments, then the same on each fallback.
    402 goes to the fallbacks at once; 400, 401, 403, 404, 413 and 422 end the call.

    Args:
        config: Routes and limits. Keys are read from the environment now, kept in memory only.
        ledger: Holds the calls to a budget; None makes them unlimited.

    Raises:
        ConfigError: no route has a deployment, or a key's variable is not set.
    """

    def __init__(self, config: ChatConfig, *, ledger: Ledger | None = None) -> None:
        self.config = config
        self.ledger = ledger
        self._routes = ways.routes_of(config)
        found = {t.path: t for route in self._routes.values() for t in route.targets}
        self._targets = tuple(found.values())
        self._secrets = tuple(t.key for t in self._targets if t.key)
        self._router: Any = None
        self._gate = asyncio.Semaphore(config.concurrency)
        self._dice = random.Random()

    def __repr__(self) -> str:
        models = ", ".join(t.deployment.model for t in self._targets)
        return f"LiteLLMChat({models})"

    def model(self, route: RouteName) -> str:
        """Return the model that the route's replies are kept under; see `model_of`."""
        return ways.model_of(self.config, route)

    async def __call__(self, request: Request) -> Reply:
        """Answer a request; see the class for what is tried.

        Raises:
            ConfigError: the request's route has no deployment.
            MissingExtra: LiteLLM is not installed.
        """
        model = self.model(request.route)
        call = _Call(request, model, request.key(model))
        self._prepare()
        route = self._routes[request.route]
        outcome = await self._ask(call, route.deployments)
        for fallback in route.fallbacks:
            if isinstance(outcome, Reply) or not outcome.elsewhere:
                break
            _log.info("%s: asking %s", outcome.reason, fallback.path)
            outcome = await self._ask(call, (fallback,))
        return outcome if isinstance(outcome, Reply) else _failed(call, outcome)

    async def aclose(self) -> None:
        """Close the connections; the chat can be used again and opens new ones."""
        if self._router is not None:
            self._router.discard()
            self._router = None
            await _stop_litellm()

    # -- one route ----------------------------------------------------------------------------

    async def _ask(self, call: _Call, targets: Sequence[Target]) -> Reply | Failure:
        outcome: Reply | Failure = Failure(status="http_error", reason="not asked")
        for attempt in range(1, self.config.attempts + 1):
            target = ways.choose(targets, call.waits, self._dice)
            wait_s = ways.ready_at(target, call.waits) - time.monotonic()
            if wait_s > MAX_WAIT_S:
                return outcome
            await asyncio.sleep(max(0.0, wait_s))
            outcome = await self._try(call, target)
            if isinstance(outcome, Reply) or not outcome.again:
                return outcome
            self._leave_alone(call, target, outcome, attempt)
            said = outcome.reason
            _log.info("%s, attempt %d of %d: %s", target.path, attempt, self.config.attempts, said)
        return outcome

    def _leave_alone(self, call: _Call, target: Target, failure: Failure, attempt: int) -> None:
        """Note for how long a target shall not be asked, by this call or by all."""
        jittered = backoff(attempt, self.config.retry_wait_s, self._dice)
        rest_s = max(failure.rest_s or 0.0, jittered)
        if failure.rest_s is not None and rest_s <= MAX_WAIT_S:
            target.rest(rest_s)
        call.waits[target] = time.monotonic() + rest_s + 0.1 * jittered

    async def _try(self, call: _Call, target: Target) -> Reply | Failure:
        """Send the request once, and once more without each feature the target refuses."""
        while True:
            async with target.gate, self._gate:
                outcome = await self._send_within_budget(call, target)
            feature = None if isinstance(outcome, Reply) else outcome.refuses
            if feature is None or feature not in self._features(call.request, target):
                return outcome
            if feature == "schema" and self.config.structured == "always":
                return outcome
            target.refused.add(feature)
            _log.warning("%s knows no %s: asking without from now on", target.path, feature)

    def _features(self, request: Request, target: Target) -> set[str]:
        return ways.features_of(request, self.config.structured) - target.refused

    # -- one request --------------------------------------------------------------------------

    async def _send_within_budget(self, call: _Call, target: Target) -> Reply | Failure:
        if self.ledger is None:
            return await self._send(call, target)
        try:
            hold: Hold = self.ledger.hold(target.price.most(call.request))
        except BudgetStopped as exc:
            return Failure(status="budget_stopped", reason=str(exc))
        spent: float | None = None
        try:
            outcome = await self._send(call, target)
            if isinstance(outcome, Reply):
                spent = outcome.cost_usd
            elif not outcome.billed:
                spent = 0.0
        finally:
            self.ledger.book(hold, spent)
        return outcome

    async def _send(self, call: _Call, target: Target) -> Reply | Failure:
        outcome = await self._exchange(call, target)
        if isinstance(outcome, Failure) and target.price.state == "free":
            return replace(outcome, billed=False)
        return outcome

    async def _exchange(self, call: _Call, target: Target) -> Reply | Failure:
        from openai import OpenAIError

        call.n_sent += 1
        timeout_s = self.config.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._router.acompletion(**self._arguments(call.request, target))
        except TimeoutError:
            late = TimeoutError(f"no reply within chat.timeout_s = {timeout_s:g}")
            return self._failure(late, target)
        except OpenAIError as exc:
            return self._failure(exc, target)
        return reply_of(
            response,
            key=call.key,
            model=call.model,
            price=target.price,
            latency_s=time.monotonic() - call.started,
            attempts=call.n_sent,
        )

    def _failure(self, exc: Exception, target: Target) -> Failure:
        return failure_of(exc, key_hint=target.key_hint, path=target.path, secrets=self._secrets)

    def _arguments(self, request: Request, target: Target) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "model": target.path,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "timeout": self.config.timeout_s,
            "num_retries": 0,
            "max_retries": 0,
        }
        features = self._features(request, target)
        if "seed" in features:
            wanted["seed"] = request.seed
        if "schema" in features:
            schema = {"name": "reply", "schema": request.schema, "strict": True}
            wanted["response_format"] = {"type": "json_schema", "json_schema": schema}
        if "logprobs" in features:
            wanted |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return wanted

    # -- LiteLLM ------------------------------------------------------------------------------

    def _prepare(self) -> None:
        if self._router is not None:
            return
        litellm = _import_litellm()
        prices = {}
        for target in self._targets:
            if (known := _table_price(target.deployment.model)) is not None:
                prices[target.deployment.model] = known
        ways.learn_prices(self._targets, prices)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as on import
            self._router = litellm.Router(
                model_list=[
                    {"model_name": t.path, "litellm_params": t.parameters()} for t in self._targets
                ],
                num_retries=0,
                disable_cooldowns=True,
            )
        _count_open(1)


def _failed(call: _Call, failure: Failure) -> Reply:
    return Reply(
        key=call.key,
        status=failure.status,
        text=None,
        reason=failure.reason,
        model_requested=call.model,
        latency_s=time.monotonic() - call.started,
        attempts=call.n_sent,
        cost_usd=None if failure.billed else 0.0,
        cost_state="unknown" if failure.billed else "free",
    )


def _import_litellm() -> Any:
    """Import LiteLLM quiet, local and without its telemetry."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic's, on classes that LiteLLM makes late
            import litellm

            litellm.ModelResponse()
    except ImportError as exc:
        raise MissingExtra("asking a language model", "llm", "litellm") from exc
    if os.environ["LITELLM_LOG"] == "ERROR":
        for name in ("LiteLLM", "LiteLLM Router"):  # failures are replies, told once
            logging.getLogger(name).setLevel(logging.CRITICAL)
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = False
    return litellm


def _table_price(model: str) -> tuple[float, float] | None:
    """Return input and output price of LiteLLM's table, None if it does not know the model."""
    import litellm
    from litellm.exceptions import BadRequestError

    try:
        known = litellm.model_cost.get(model) or litellm.model_cost.get(
            litellm.get_llm_provider(model)[0]
        )
    except BadRequestError as exc:
        raise ConfigError(
            f"model {model!r}: no provider of this name; for an OpenAI-compatible server write "
            "hosted_vllm/NAME or openai/NAME and set api_base"
        ) from exc
    if not known or known.get("litellm_provider") != litellm.get_llm_provider(model)[1]:
        return None
    prices = known.get("input_cost_per_token"), known.get("output_cost_per_token")
    return None if prices[0] is None or prices[1] is None else (float(prices[0]), float(prices[1]))


def _count_open(change: int) -> int:
    global _open_chats
    with _counting:
        _open_chats += change
        return _open_chats


async def _stop_litellm() -> None:
    """Close LiteLLM's connections with the last chat of this process; it shares them."""
    if _count_open(-1) > 0:
        return
    litellm = _import_litellm()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()
