"""LiteLLM as it is wanted here: imported late, quiet and local, its connections closed once."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from lakeinterp.chat.prices import Price, price_of
from lakeinterp.chat.vllm import named
from lakeinterp.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lakeinterp.chat.targets import Target
    from lakeinterp.chat.types import RouteName
    from lakeinterp.config import ChatConfig

_ODD = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, OSError)
"""What reading raises when a provider sends what nobody expects."""
_INNER = ("client", "_client")
"""Where LiteLLM's and the providers' clients keep the one of httpx."""
_made: ContextVar[list[Any]] = ContextVar("_made")
"""Takes the clients made outside of the cache."""
_open_routers = 0
_counting = threading.Lock()


def import_litellm() -> Any:
    """Import LiteLLM quiet, local and without its telemetry.

    Raises:
        MissingExtra: it is not installed.
    """
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
    _keep_to_addresses(litellm)
    return litellm


@cache
def provider_errors() -> tuple[type[Exception], ...]:
    """Return the classes that LiteLLM has for what a provider does; most are of `openai`."""
    import httpx
    from litellm.llms.base_llm.chat.transformation import BaseLLMException
    from litellm.llms.custom_llm import CustomLLMError
    from openai import OpenAIError

    return (OpenAIError, BaseLLMException, CustomLLMError, httpx.HTTPError)


@cache
def reading_errors() -> tuple[type[Exception], ...]:
    """Return what asking and reading a reply raise for what a provider does, or sends."""
    return (*provider_errors(), *_ODD)


def _keep_to_addresses(litellm: Any) -> None:
    """Let clients made from now on follow no redirect, which LiteLLM has no setting for.

    A redirect would take prompts, and every secret header but `Authorization`, to an address that
    nobody named, and turn the request into a GET. Clients for chats, and Azure's, go through
    LiteLLM's cache of clients; those for files and batches of OpenAI's protocol do not.
    """
    from litellm.caching.llm_caching_handler import LLMClientCache
    from litellm.llms.openai.openai import OpenAIBatchesAPI, OpenAIFilesAPI

    class _Clients(LLMClientCache):
        def set_cache(self, key: str, value: Any, *given: Any, **named: Any) -> Any:
            return super().set_cache(key, _staying(value), *given, **named)

    if type(litellm.in_memory_llm_clients_cache).__name__ == _Clients.__name__:
        return
    litellm.in_memory_llm_clients_cache = _Clients()
    for api in (OpenAIFilesAPI, OpenAIBatchesAPI):
        made = _staying_clients(api.get_openai_client)
        api.get_openai_client = made  # type: ignore[method-assign]


def _staying_clients(make: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make)
    def made(*given: Any, **named: Any) -> Any:
        client = _staying(make(*given, **named))
        if (kept := _made.get(None)) is not None:
            kept.append(client)
        return client

    return made


@contextmanager
def clients_into(kept: list[Any]) -> Iterator[None]:
    """Add the clients that LiteLLM makes for files and batches to a list: it closes none."""
    token = _made.set(kept)
    try:
        yield
    finally:
        _made.reset(token)


def _staying(client: Any) -> Any:
    """Return a client that follows no redirect; it may be wrapped once or twice."""
    for one in (client, *(getattr(client, name, None) for name in _INNER)):
        if hasattr(one, "follow_redirects"):
            one.follow_redirects = False
    return client


def open_router(targets: Sequence[Target]) -> Any:
    """Return a `litellm.Router` with one name a deployment and nothing of its own switched on."""
    litellm = import_litellm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as on import
        router = litellm.Router(
            model_list=[
                {"model_name": target.path, "litellm_params": target.parameters()}
                for target in targets
            ],
            num_retries=0,
            disable_cooldowns=True,
        )
    count_open(1)
    return router


async def close_router(router: Any) -> None:
    """Close a router, and LiteLLM's connections with the last one of this process."""
    router.discard()
    await close_connections()


async def close_connections() -> None:
    """Close LiteLLM's connections if nobody else in this process uses them.

    They are forgotten too: it keeps them by their event loop's address, which a later loop may get.
    """
    if count_open(-1) > 0:
        return
    litellm = import_litellm()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


def table_price(model: str) -> tuple[float, float] | None:
    """Return input and output price of LiteLLM's table, None if it does not know the model.

    Raises:
        ConfigError: the name has no provider that LiteLLM knows.
    """
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


def usual_price(config: ChatConfig, route: RouteName) -> Price:
    """Return the price of a route's first deployment; unknown if it has none.

    Raises:
        ConfigError: its model's name has no provider that LiteLLM knows.
    """
    config = named(config)
    deployments = getattr(config, route).deployments or config.explainer.deployments
    if not deployments:
        return Price("unknown")
    own = price_of(deployments[0], None)
    if own.state == "priced":
        return own
    try:
        import_litellm()
    except MissingExtra:
        return own
    return price_of(deployments[0], table_price(deployments[0].model))


def count_open(change: int) -> int:
    """Note users of LiteLLM's connections that come or go; return how many there are."""
    global _open_routers
    with _counting:
        _open_routers += change
        return _open_routers
