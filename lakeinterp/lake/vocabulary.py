"""Token ids to text without the tokenizer: reads the `vocabulary` table."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Bytes of every token of one tokenizer."""

    tokenizer: str
    """Digest of the tokenizer."""
    encoded: tuple[bytes, ...]
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
            rows: Columns token_id (ascending), bytes and special.
        """
        # Arrow's `to_numpy` imports pandas, which takes longer than all of this.
        ids, encoded = rows["token_id"], rows["bytes"].to_pylist()
        n = int(ids[-1].as_py()) + 1
        if n != len(ids):
            known = dict(zip(ids.to_pylist(), encoded, strict=True))
            encoded = [known.get(i, b"") for i in range(n)]
        special = ids.filter(rows["special"]).to_pylist()
        return cls(tokenizer, tuple(encoded), frozenset(special))

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
