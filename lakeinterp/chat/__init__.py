"""The chat room: the one door to language models."""

from lakeinterp.chat.types import Chat, Message, Reply, Request, TokenLogprobs

__all__ = ["Chat", "Message", "Reply", "Request", "TokenLogprobs"]
