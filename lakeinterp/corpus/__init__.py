"""The corpus room: text to sequences of token ids, with the spans of their documents."""

from lakeinterp.corpus.sequences import Sequence, SequenceSource
from lakeinterp.corpus.tokenizer import Tokenizer

__all__ = ["Sequence", "SequenceSource", "Tokenizer"]
