"""Tokens that are only known as strings: a vocabulary made of them, or one they are sought in.

Byte-level tokenizers print each byte as a letter of its own; tools that show a vocabulary as it is
stored leave that spelling in their files.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lakeinterp.lake import Vocabulary


def words(tokenizer: str, pieces: Iterable[str]) -> list[dict[str, Any]]:
    """Return rows of `vocabulary` for some strings, numbered in their order."""
    ordered = sorted(pieces)
    encode: Callable[[str], bytes] = _bytes if _are_spelled(ordered) else str.encode
    return [_word(tokenizer, number, encode(piece)) for number, piece in enumerate(ordered)]


def tokens(vocabulary: Vocabulary, pieces: Iterable[str]) -> dict[str, int]:
    """Return the token of each string that a vocabulary has, as it stands or spelled in bytes."""
    known = {word: token for token, word in reversed(list(enumerate(vocabulary.encoded)))}
    ordered = sorted(pieces)
    ways: tuple[Callable[[str], bytes], ...] = (str.encode, _bytes)
    ways = ways[::-1] if _are_spelled(ordered) else ways
    found = {}
    for piece in ordered:
        for way in ways:
            if (word := way(piece)) in known:
                found[piece] = known[word]
                break
    return found


def _word(tokenizer: str, token: int, encoded: bytes) -> dict[str, Any]:
    return {
        "tokenizer": tokenizer, "token_id": token, "text": encoded.decode(errors="replace"),
        "bytes": encoded, "special": False,
    }  # fmt: skip


def _bytes(piece: str) -> bytes:
    """Return the bytes of a piece that is spelled as byte-level tokenizers print it, or nothing."""
    table = _spelled()
    return b"".join(table.get(letter, b"\xff\xff") for letter in piece)


def _are_spelled(pieces: Iterable[str]) -> bool:
    """Whether strings are spelled as byte-level tokenizers print them: `âĢĻ` for ’."""
    table = _spelled()
    letters = {letter for piece in pieces for letter in piece}
    return letters <= table.keys() and any(ord(letter) > 255 for letter in letters)


@cache
def _spelled() -> dict[str, bytes]:
    """Return the byte each letter stands for: printable Latin-1 itself, others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain}
    letters |= {chr(256 + place): byte for place, byte in enumerate(others)}
    # Dashboards undo the spelling of white space.
    white = {letter: letter.encode() for letter in " \n\t\r"}
    return white | {letter: bytes([byte]) for letter, byte in letters.items()}
