"""Token ids to text without the tokenizer: reads the `vocabulary` table."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Column(Sequence[bytes]):
    """A column of bytes, each made when it is asked for: a text has few of all the tokens."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, at: Any) -> Any:
        found = self._column[at]
        return tuple(found.to_pylist()) if isinstance(at, slice) else found.as_py()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._column.to_pylist())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Bytes of every token of one tokenizer."""

    tokenizer: str
    """Digest of the tokenizer."""
    encoded: Sequence[bytes]
    """UTF-8 bytes of each token, by token id; a token may hold part of a character."""
    special: frozenset[int] = frozenset()
    """Ids of tokens that are no text: beginning and end of text, padding, …"""
    _whole: dict[int, str | None] = field(default_factory=dict, repr=False, compare=False)
    """Text of the tokens met so far, None for one that is not whole characters."""

    @classmethod
    def of(cls, tokenizer: str, rows: pa.Table) -> Vocabulary:
        """Return the vocabulary that the rows of a tokenizer hold.

        Args:
            tokenizer: Its digest.
            rows: Columns token_id, bytes and special, in any order; one row or more.
        """
        # Arrow's `to_numpy` imports pandas, which takes longer than all of this.
        ids = rows["token_id"].combine_chunks()
        special = frozenset(ids.filter(rows["special"].combine_chunks()).to_pylist())
        if ids.equals(pa.arange(0, len(ids)).cast(ids.type)):
            return cls(tokenizer, _Column(rows["bytes"].combine_chunks()), special)
        known = dict(zip(ids.to_pylist(), rows["bytes"].to_pylist(), strict=True))
        encoded = tuple(known.get(i, b"") for i in range(max(known) + 1))
        return cls(tokenizer, encoded, special)

    def pieces(self, tokens: Iterable[int]) -> tuple[str, ...]:
        """Return the text of each token; joined they are the text of the whole.

        A character spread over several tokens belongs to the one that completes it. Bytes that
        are no UTF-8, for example where a window cuts a character, become U+FFFD.
        """
        tokens, whole = tuple(tokens), self._whole
        for token in tokens:
            if token not in whole:
                whole[token] = _decoded(self._bytes_of(token))
        found = tuple([whole[token] for token in tokens])
        if _are_texts(found):
            return found
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces = [decoder.decode(self._bytes_of(token)) for token in tokens]
        if pieces:
            pieces[-1] += decoder.decode(b"", final=True)
        return tuple(pieces)

    def text(self, tokens: Iterable[int]) -> str:
        """Return the text of a run of tokens."""
        return "".join(self.pieces(tokens))

    def _bytes_of(self, token: int) -> bytes:
        if 0 <= token < len(self.encoded):
            return self.encoded[token]
        return f"<token {token}>".encode()


def _decoded(encoded: bytes) -> str | None:
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return None


def _are_texts(found: tuple[str | None, ...]) -> TypeGuard[tuple[str, ...]]:
    return None not in found
