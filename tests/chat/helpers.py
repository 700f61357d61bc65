"""Short ways to ask, for the tests of this folder."""

import asyncio

from lakeinterp.chat import LiteLLMChat, Message, Request, open_chat
from lakeinterp.config import ChatConfig, Config, load


def question(text="what?", **values):
    """Return a request of one user message."""
    values = {"route": "judge", "max_tokens": 50, **values}
    return Request(messages=(Message(role="user", content=text),), **values)


def settings(wire, **values):
    """Return a configuration that asks a wire, waits for nothing and never gives it up."""
    plain = {"retry_wait_s": 0, "attempts": 3, "timeout_s": 5, "circuit_failures": None}
    return ChatConfig(**{"explainer": wire.route(), **plain, **values})


def ask_directly(config, *requests):
    """Ask one after the other without a store and return the replies."""

    async def run():
        chat = LiteLLMChat(config)
        try:
            return [await chat(request) for request in requests]
        finally:
            await chat.aclose()

    return asyncio.run(run())


def ask_stored(lake, config, *requests, chat=None):
    """Ask all at once through the lake's chat; return the replies and the statistics."""

    async def run():
        async with open_chat(lake, config, chat=chat) as stored:
            replies = await asyncio.gather(*(stored(request) for request in requests))
        return replies, stored.stats

    return asyncio.run(run())


def whole(folder, chat=None, **values):
    """Return the settings of a whole run on the lake of `sampled`, asking what `chat` says."""
    settings = {
        "lake": str(folder),
        "explain.explainer": "default",
        "score.scorers": ["detection"],
        "score.n_borrowed": 1,
        "sampling.latents": [0, 1],
        **values,
    }
    config: Config = load(values=settings)
    return config if chat is None else config.model_copy(update={"chat": chat})
