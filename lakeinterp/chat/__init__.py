"""The chat room: the one door to language models.

async with open_chat(lake, config.chat) as chat:
    reply = await chat(Request(route="judge", messages=(...), max_tokens=100))
"""

from lakeinterp.chat.ask import Asked, ask
from lakeinterp.chat.parse import parse_choices, parse_field, parse_json, parse_labels
from lakeinterp.chat.probabilities import label_probabilities
from lakeinterp.chat.router import LiteLLMChat
from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.store import ReplyStore
from lakeinterp.chat.stored import ChatStats, StoredChat, open_chat
from lakeinterp.chat.types import Chat, Message, Reply, Request, TokenLogprobs

__all__ = [
    "Asked",
    "Chat",
    "ChatStats",
    "LiteLLMChat",
    "Message",
    "Reply",
    "ReplyStore",
    "Request",
    "ScriptedChat",
    "StoredChat",
    "TokenLogprobs",
    "ask",
    "label_probabilities",
    "open_chat",
    "parse_choices",
    "parse_field",
    "parse_json",
    "parse_labels",
]
