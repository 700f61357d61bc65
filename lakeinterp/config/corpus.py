"""Settings of the text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lakeinterp.config.section import Section


class CorpusConfig(Section):
    """Where the text comes from."""

    dataset: str = ""
    """A file (.jsonl, .parquet, .txt, .csv), a folder of them, a hub dataset id, `demo`, or ready
    sequences of token ids: a .npy file, a Parquet list column, the folder of a delphi cache."""
    name: str | None = None
    """Configuration name of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset."""
    column: str | None = None
    """Column that holds the text; None takes `text`, or the only text column there is."""
    revision: str | None = None
    """Revision of a hub dataset."""
    chat: bool = False
    """The column holds lists of messages: the tokenizer's chat template makes the text."""
    shuffle_rows: Annotated[int, Field(ge=0)] = 0
    """Rows kept at hand to draw the next one from; 0 leaves the source's order."""
    shuffle_seed: Annotated[int, Field(ge=0)] = 22
    """Decides the order of a shuffled source."""
    context_tokens: Annotated[int, Field(gt=1)] = 256
    """Tokens of one forward pass."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Put the beginning-of-text token in front of every sequence; `auto` does as the tokenizer."""
