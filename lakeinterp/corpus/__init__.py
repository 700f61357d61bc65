"""The corpus room: text to sequences of token ids, with the spans of their documents."""

from lakeinterp.corpus.pack import Sequence, Span
from lakeinterp.corpus.sequences import SequenceSource
from lakeinterp.corpus.tokenizer import Tokenizer

__all__ = ["Sequence", "SequenceSource", "Span", "Tokenizer"]
