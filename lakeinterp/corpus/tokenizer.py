"""A model's tokenizer: ids of texts, and the bytes of every token for the `vocabulary` table."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from lakeinterp import hub
from lakeinterp.errors import ConfigError, MissingExtra
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from lakeinterp.config import CorpusConfig

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>\Z")


class Tokenizer:
    """A Hugging Face fast tokenizer, seen as a function and a list of bytes."""

    def __init__(self, model: str, revision: str | None = None) -> None:
        """Load the tokenizer of a model folder or hub id.

        Raises:
            MissingExtra: transformers is not installed.
            NotFound: there is no such model.
            ConfigError: the model has no fast tokenizer.
        """
        try:
            from transformers import AutoTokenizer
        except ImportError as exc:
            raise MissingExtra("tokenizing", "capture", "transformers") from exc
        hub.require("model", model)
        try:
            self._hf: Any = AutoTokenizer.from_pretrained(model, revision=revision)
        except hub.failures() as exc:
            if not Path(model).is_dir():
                raise hub.not_found("model", model, exc) from exc
            raise ConfigError(f"capture.model: {model} has no tokenizer: {_line(exc)}") from exc
        if not getattr(self._hf, "is_fast", False):
            raise ConfigError(f"capture.model: {model} has no fast tokenizer (tokenizer.json)")

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text; markup that looks like a special token stays text."""
        encoded = self._hf(
            texts, add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        return [list(ids) for ids in encoded["input_ids"]]

    def as_text(self, messages: list[dict[str, str]]) -> str:
        """Return a conversation as the tokenizer's chat template writes it.

        Raises:
            ConfigError: the tokenizer has no chat template, or the row is no list of messages.
        """
        try:
            return str(self._hf.apply_chat_template(messages, tokenize=False))
        except (ValueError, TypeError, AttributeError, TemplateError) as exc:
            raise ConfigError(f"corpus.chat: {_line(exc)}") from exc

    def encode_chat(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of conversations; the template's special tokens are special."""
        encoded = self._hf(texts, add_special_tokens=False, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]

    @cached_property
    def digest(self) -> str:
        """Digest of the tokenizer's own definition."""
        return digest(self._definition)

    @property
    def special(self) -> list[int]:
        """Ids that are no text (beginning and end of text, padding, and such), sorted."""
        return sorted(set(self._hf.all_special_ids))

    @property
    def separator(self) -> int | None:
        """The id put between documents: end of text, else beginning of text, else none."""
        end: int | None = self._hf.eos_token_id
        return self._hf.bos_token_id if end is None else end

    def bos(self, config: CorpusConfig) -> int | None:
        """Return the id to put in front of every sequence, None for none.

        Raises:
            ConfigError: `corpus.bos = "always"` and the tokenizer has no such token.
        """
        token: int | None = self._hf.bos_token_id
        if config.bos == "never":
            return None
        if config.bos == "always":
            if token is None:
                raise ConfigError("corpus.bos: always, but the tokenizer has no such token")
            return token
        adds_it = token is not None and self._hf("a")["input_ids"][:1] == [token]
        return token if adds_it else None

    def vocabulary(self) -> list[dict[str, object]]:
        """Return the rows of the `vocabulary` table, one for every id."""
        special = set(self.special)
        added = {int(i): t.content for i, t in self._hf.added_tokens_decoder.items()}
        rows = []
        for token_id in range(len(self._hf)):
            token = self._hf.convert_ids_to_tokens(token_id)
            if token is None:
                continue
            encoded = added[token_id].encode() if token_id in added else self._bytes(token)
            rows.append(
                {
                    "tokenizer": self.digest,
                    "token_id": token_id,
                    "text": encoded.decode("utf-8", "replace"),
                    "bytes": encoded,
                    "special": token_id in special,
                }
            )
        return rows

    @cached_property
    def _definition(self) -> dict[str, Any]:
        definition: dict[str, Any] = json.loads(self._hf.backend_tokenizer.to_str())
        definition.pop("padding", None)
        definition.pop("truncation", None)
        return definition

    @cached_property
    def _decoders(self) -> set[str]:
        decoder = self._definition.get("decoder") or {}
        return {d["type"] for d in [decoder, *decoder.get("decoders", [])] if "type" in d}

    def _bytes(self, token: str) -> bytes:
        if "ByteLevel" in self._decoders:
            return bytes(_BYTE_OF[c] if c in _BYTE_OF else ord("?") for c in token)
        if "WordPiece" in self._decoders:
            return token.removeprefix("##").encode() if token[:2] == "##" else f" {token}".encode()
        if match := _BYTE_TOKEN.match(token):
            return bytes([int(match[1], 16)])
        return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode("utf-8", "replace")


def _byte_alphabet() -> dict[str, int]:
    """Return the byte each character of a byte-level vocabulary stands for (GPT-2's alphabet)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _line(exc: BaseException) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
