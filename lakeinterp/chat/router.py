"""Language models over HTTP, through LiteLLM's `Router`: vLLM, OpenRouter, any provider it knows.

The Router speaks each provider's dialect and keeps the connections. Which deployment is asked is
decided here, one Router name a deployment, because a retry must go elsewhere, an error must name
the setting at fault, and a fallback must never be paid for a request that is itself wrong.
Its own and its client's retries, fallbacks and cool-downs are off: this is the one retry layer.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lakeinterp.chat import backend
from lakeinterp.chat import targets as ways
from lakeinterp.chat.failures import Failure, backoff, failure_of
from lakeinterp.chat.ledger import Purse
from lakeinterp.chat.prices import prompt_bytes
from lakeinterp.chat.replies import reply_of
from lakeinterp.chat.types import Reply
from lakeinterp.chat.waits import asked_wait
from lakeinterp.chat.waking import wake
from lakeinterp.errors import BudgetStopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.chat.learnt import Learnt
    from lakeinterp.chat.ledger import Ledger
    from lakeinterp.chat.targets import Route, Target
    from lakeinterp.chat.types import Request, RouteName
    from lakeinterp.config import ChatConfig

_log = logging.getLogger(__name__)
_BYTES_PER_TOKEN = 4
"""Of a usual prompt; only the pace is set by it, never the budget."""


@dataclass(slots=True)
class _Call:
    """One request on its way."""

    request: Request
    model: str
    key: str
    route: Route
    n_bytes: int
    """Of its prompt."""
    started: float = field(default_factory=time.monotonic)
    n_sent: int = 0
    may_be_billed: bool = False
    """Whether a failed try may have cost money."""
    waits: dict[Target, float] = field(default_factory=dict)
    """Until when a deployment that just failed this call is left alone by it."""

    @property
    def likely_tokens(self) -> int:
        """Tokens that it will likely come to at most."""
        return self.n_bytes // _BYTES_PER_TOKEN + self.request.max_tokens


class LiteLLMChat:
    """Asks the configured deployments; never raises for what a provider does.

    Retries what may work later (timeouts, cut connections, 408, 409, 425, 429, 5xx, bodies that
    are no reply) `attempts` times over the route's deployments, then the same on each fallback.
    402 goes to the fallbacks at once; 400, 401, 403, 404, 413 and 422 end the call. A deployment
    that keeps failing rests, see `circuit`.

    Args:
        config: Routes and limits. Keys are read from the environment now, kept in memory only.
        ledger: Holds the calls to a budget; None makes them unlimited.
        learnt: Keeps which features the deployments know; None forgets it with the chat.

    Raises:
        ConfigError: no route has a deployment, or a key's variable is not set.
    """

    def __init__(
        self, config: ChatConfig, *, ledger: Ledger | None = None, learnt: Learnt | None = None
    ) -> None:
        self.config = config
        self.ledger, self.learnt = ledger, learnt
        self._routes = ways.routes_of(config)
        found = {t.path: t for route in self._routes.values() for t in route.targets}
        self._targets = tuple(found.values())
        self._secrets = tuple(s for t in self._targets for s in t.secrets)
        self._router: Any = None
        self._purse: Purse | None = None
        self._gate = asyncio.Semaphore(config.concurrency)
        self._changed = asyncio.Event()
        """Set when a resting deployment answers."""
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
        route = self._routes[request.route]
        await wake(target.deployment.api_base for target in route.targets)
        self._prepare()
        call = _Call(request, model, request.key(model), route, prompt_bytes(request))
        outcome = await self._ask(call, route.deployments)
        for fallback in route.fallbacks:
            if isinstance(outcome, Reply) or not outcome.elsewhere:
                break
            _log.info("%s: asking %s", outcome.reason, fallback.path)
            outcome = await self._ask(call, (fallback,))
        if not isinstance(outcome, Reply):
            return _failed(call, outcome)
        return replace(outcome, cost_state="unknown") if call.may_be_billed else outcome

    async def aclose(self) -> None:
        """Close the connections; the chat can be used again and opens new ones."""
        if self._router is not None:
            router, self._router = self._router, None
            await backend.close_router(router)

    # -- one route ----------------------------------------------------------------------------

    async def _ask(self, call: _Call, targets: Sequence[Target]) -> Reply | Failure:
        outcome: Reply | Failure | None = None
        attempt = 0
        while attempt < self.config.attempts:
            target = await self._ready(call, targets)
            if isinstance(target, Failure):
                return target if outcome is None else outcome
            tried = await self._try(call, target)
            if tried is None:
                continue
            attempt, outcome = attempt + 1, tried
            self._note(target, outcome)
            if isinstance(outcome, Reply):
                return outcome
            call.may_be_billed |= outcome.billed
            if not outcome.again:
                return outcome
            self._leave_alone(call, target, outcome, attempt)
            said = outcome.reason
            _log.info("%s, attempt %d of %d: %s", target.path, attempt, self.config.attempts, said)
        assert outcome is not None, "attempts is at least 1"
        return outcome

    async def _ready(self, call: _Call, targets: Sequence[Target]) -> Target | Failure:
        """Wait until a target may be asked, or return why this is not waited for."""
        while True:
            target = ways.choose(targets, call.waits, self._dice)
            now = time.monotonic()
            wait_s = ways.ready_at(target, call.waits) - now
            if wait_s <= 0:
                return target
            if target.circuit.is_hopeless(now):
                return target.circuit.failure(target.path)
            if wait_s > self.config.max_wait_s and not target.circuit.is_open:
                return _too_long(target, wait_s)
            if target.circuit.is_open and (hope_s := target.circuit.hope_until - now) > 0:
                wait_s = min(wait_s, hope_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _note(self, target: Target, outcome: Reply | Failure) -> None:
        """Tell the target's circuit what came of a try."""
        if isinstance(outcome, Failure) and outcome.status == "budget_stopped":
            return
        if isinstance(outcome, Failure) and outcome.is_strike:
            if target.circuit.failed(outcome, time.monotonic()):
                n_failed = target.circuit.n_failed
                _log.warning(
                    "%s failed %d times in a row and rests: %s",
                    target.path,
                    n_failed,
                    outcome.reason,
                )
        elif target.circuit.answered():
            _log.warning("%s answers again", target.path)
            self._changed.set()
            self._changed = asyncio.Event()

    def _leave_alone(self, call: _Call, target: Target, failure: Failure, attempt: int) -> None:
        """Note for how long a target shall not be asked, by this call or by all."""
        jittered = backoff(attempt, self.config.retry_wait_s, self._dice)
        rest_s = max(failure.rest_s or 0.0, jittered)
        if failure.rest_s is not None:
            target.rest(rest_s)
        call.waits[target] = time.monotonic() + rest_s + 0.1 * jittered

    async def _try(self, call: _Call, target: Target) -> Reply | Failure | None:
        """Send the request once, and once more without each feature the target refuses.

        None if the target may not be asked any more when the call's turn has come.
        """
        while True:
            features = self._features(call.request, target)
            if features - target.tried and target.probe is not None:
                await target.probe.wait()
                continue
            outcome = await self._in_turn(call, target, features)
            refused = outcome.refuses if isinstance(outcome, Failure) else None
            if refused is None or refused not in features:
                return outcome
            if refused == "schema" and self.config.structured == "always":
                return outcome
            self._forgo(target, refused)

    def _features(self, request: Request, target: Target) -> set[str]:
        return ways.features_of(request, self.config.structured) - target.refused

    def _forgo(self, target: Target, feature: str) -> None:
        if feature in target.refused:
            return
        target.refused.add(feature)
        if self.learnt is not None:
            self.learnt.note(target.deployment, feature, is_known=False)
        _log.warning("%s knows no %s: asking without from now on", target.path, feature)

    def _learn(self, target: Target, features: set[str], reply: Reply) -> None:
        if self.learnt is not None:
            for feature in sorted(features - target.known):
                self.learnt.note(target.deployment, feature, is_known=True)
        target.known |= features
        if reply.status not in ("ok", "truncated"):
            return
        given = {"logprobs": reply.logprobs, "gaps": reply.gaps}
        missing = {name for name, found in given.items() if name in features and found is None}
        for name in sorted(missing - target.left_out):
            target.left_out.add(name)
            of = "" if name == "logprobs" else " of prompts"
            _log.warning("%s gives no log-probabilities%s: going on without", target.path, of)

    # -- one request --------------------------------------------------------------------------

    async def _in_turn(
        self, call: _Call, target: Target, features: set[str]
    ) -> Reply | Failure | None:
        expected = call.likely_tokens
        limits = target.limits, call.route.limits
        outcome: Reply | Failure | None = None
        with target.trying(features):
            async with limits[0].turn(expected), limits[1].turn(expected), self._gate:
                now = time.monotonic()
                if ways.ready_at(target, {}) <= now:
                    target.circuit.enter(now)
                    outcome = await self._send_within_budget(call, target, features)
        used = 0 if outcome is None else _tokens_used(outcome, expected)
        for limit in limits:
            limit.used(used, expected)
        if isinstance(outcome, Reply):
            self._learn(target, features, outcome)
        return outcome

    async def _send_within_budget(
        self, call: _Call, target: Target, features: set[str]
    ) -> Reply | Failure:
        if self._purse is None:
            return await self._send(call, target, features)
        most = target.price.most(call.request, call.n_bytes)
        try:
            hold = await self._purse.hold(most, call.n_bytes + call.request.max_tokens)
        except BudgetStopped as exc:
            return Failure(status="budget_stopped", reason=str(exc))
        usd: float | None = None
        n_tokens: int | None = None
        try:
            outcome = await self._send(call, target, features)
            if isinstance(outcome, Reply):
                usd, n_tokens = outcome.cost_usd, outcome.n_tokens
            elif not outcome.billed:
                usd, n_tokens = 0.0, 0
        finally:
            self._purse.book(hold, usd, n_tokens)
        return outcome

    async def _send(self, call: _Call, target: Target, features: set[str]) -> Reply | Failure:
        outcome = await self._exchange(call, target, features)
        if isinstance(outcome, Failure) and target.price.state == "free":
            return replace(outcome, billed=False)
        return outcome

    async def _exchange(self, call: _Call, target: Target, features: set[str]) -> Reply | Failure:
        call.n_sent += 1
        timeout_s = self.config.timeout_s
        wanted = ways.arguments(call.request, target, features, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._router.acompletion(**wanted)
            self._obey(target, response)
            return reply_of(
                response,
                request=call.request,
                key=call.key,
                model=call.model,
                price=target.price,
                latency_s=time.monotonic() - call.started,
                attempts=call.n_sent,
            )
        except TimeoutError:
            late = TimeoutError(f"no reply within chat.timeout_s = {timeout_s:g}")
            return self._failure(late, target)
        except backend.reading_errors() as exc:
            return self._failure(exc, target)

    def _obey(self, target: Target, response: Any) -> None:
        """Let a target rest whose headers say that nothing is left of its limit."""
        headers = getattr(response, "_hidden_params", {}).get("additional_headers") or {}
        if wait_s := asked_wait(headers, only_spent=True):
            target.rest(min(wait_s, self.config.max_wait_s))

    def _failure(self, exc: Exception, target: Target) -> Failure:
        return failure_of(exc, key_hint=target.key_hint, path=target.path, secrets=self._secrets)

    def _prepare(self) -> None:
        if self._router is not None:
            return
        backend.import_litellm()
        prices = {}
        for target in self._targets:
            if (known := backend.table_price(target.deployment.model)) is not None:
                prices[target.deployment.model] = known
            if self.learnt is not None:
                for feature, is_known in self.learnt.features(target.deployment).items():
                    (target.known if is_known else target.refused).add(feature)
                    target.tried.add(feature)
        ways.learn_prices(self._targets, prices)
        if self.ledger is not None:
            self._purse = Purse(self.ledger, patience_s=2 * self.config.timeout_s)
        self._router = backend.open_router(self._targets)


def _tokens_used(outcome: Reply | Failure, expected: int) -> int:
    if isinstance(outcome, Reply):
        return expected if outcome.n_tokens is None else outcome.n_tokens
    return expected if outcome.billed else 0


def _too_long(target: Target, wait_s: float) -> Failure:
    return Failure(
        status="http_error",
        reason=f"not sent: {target.path} asked for a rest, of which {wait_s:.0f} s are left: "
        "longer than chat.max_wait_s",
        elsewhere=True,
    )


def _failed(call: _Call, failure: Failure) -> Reply:
    billed = failure.billed or call.may_be_billed
    return Reply(
        key=call.key,
        status=failure.status,
        text=None,
        reason=failure.reason,
        model_requested=call.model,
        latency_s=time.monotonic() - call.started,
        attempts=call.n_sent,
        cost_usd=None if billed else 0.0,
        cost_state="unknown" if billed else "free",
    )
