"""Documents to sequences of one length: joined by the end-of-text token, never reordered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.corpus.documents import document_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens of one document, up to the next span or the end of the sequence."""

    document: int | None
    """None for tokens of no document: beginning and end of text."""
    start: int
    """Position in the sequence."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """The tokens of one forward pass."""

    sequence: int
    """Number within the corpus."""
    tokens: tuple[int, ...]
    spans: tuple[Span, ...]
    next_row: int
    """Row of the source in which the next sequence starts."""
    next_offset: int
    """Tokens of that row (its separator included) that are used up."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is left of one document's tokens."""

    row: int
    document: int
    tokens: list[int]
    """With the separator at the end, if there is one."""
    n_text: int
    """Tokens before the separator."""


def pack(
    texts: Iterable[str],
    encode: Callable[[list[str]], list[list[int]]],
    *,
    context_tokens: int,
    bos: int | None,
    separator: int | None,
    first: int = 0,
    row: int = 0,
    offset: int = 0,
    batch_rows: int = 64,
) -> Iterator[Sequence]:
    """Yield sequences of exactly `context_tokens` tokens; what is left at the end is dropped.

    Args:
        texts: The source's rows from `row` on.
        encode: Token ids of some texts, without special tokens.
        context_tokens: Length of a sequence, `bos` included.
        bos: Put in front of every sequence; None puts nothing.
        separator: Put behind every document; None puts nothing.
        first: Number of the first sequence made.
        row: Row of the source that `texts` starts with.
        offset: Tokens of the first row that earlier sequences hold.
        batch_rows: Rows encoded together.
    """
    number = first
    tokens, spans = _start(bos)
    for piece in _pieces(texts, encode, separator, row, batch_rows):
        used, offset = offset, 0
        while used < len(piece.tokens):
            taken = piece.tokens[used : used + context_tokens - len(tokens)]
            spans += _spans(piece, used, len(tokens), len(taken))
            tokens += taken
            used += len(taken)
            if len(tokens) == context_tokens:
                done = used == len(piece.tokens)
                where = (piece.row + 1, 0) if done else (piece.row, used)
                yield Sequence(number, tuple(tokens), tuple(spans), *where)
                number += 1
                tokens, spans = _start(bos)


def _start(bos: int | None) -> tuple[list[int], list[Span]]:
    return ([], []) if bos is None else ([bos], [Span(None, 0)])


def _spans(piece: _Piece, used: int, position: int, n_taken: int) -> list[Span]:
    """Return the spans that `n_taken` tokens of a piece from `used` on add at `position`."""
    spans = []
    if used < piece.n_text:
        spans.append(Span(piece.document, position))
    if used + n_taken > piece.n_text:
        spans.append(Span(None, position + max(0, piece.n_text - used)))
    return spans


def _pieces(
    texts: Iterable[str],
    encode: Callable[[list[str]], list[list[int]]],
    separator: int | None,
    row: int,
    batch_rows: int,
) -> Iterator[_Piece]:
    end = [] if separator is None else [separator]
    for batch in _batches(texts, batch_rows):
        for text, ids in zip(batch, encode(batch), strict=True):
            if ids:
                yield _Piece(row, document_id(text), ids + end, len(ids))
            row += 1


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
