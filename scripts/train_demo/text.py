"""The tokenizer, and texts as packed sequences of token ids."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from lakeinterp.demo import FIGURES, MODEL_DIR
from lakeinterp.demo.corpus import Part, documents

if TYPE_CHECKING:
    from collections.abc import Iterator


# Shape suffixes: B sequences, T tokens of a context, V vocabulary, N tokens, D model width,
# L latents, K kept latents a token.

PROGRESS = Path("build/demo_model.pt")

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0
CONTEXT_TOKENS = 256

# Words, single digits, runs of signs, a newline with the indent that follows it.
CODE_WORDS = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\n+ *|[^\S\n]+(?=\S)|\s+"


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """How the language model is built and trained."""

    vocabulary: int = 4096
    width: int = 192
    mlp_width: int = 512
    layers: int = 6
    heads: int = 3
    batch: int = 16
    steps: int = 2250
    warmup_steps: int = 100
    learning_rate: float = 2e-3
    weight_decay: float = 0.1


def record(section: str, figures: dict[str, Any]) -> None:
    """Replace one section of the figures file."""
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    known[section] = figures
    FIGURES.write_text(json.dumps(known, indent=1) + "\n")


def train_tokenizer(vocabulary: int) -> None:
    """Fit a byte-level BPE to the training part and save it as a Hugging Face tokenizer."""
    started = time.monotonic()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CODE_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for _, text in documents("train")), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(MODEL_DIR)
    # Version 5 of transformers writes a class name that version 4 does not know.
    path = MODEL_DIR / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(config, indent=2) + "\n")
    record("tokenizer", _corpus_figures() | {"seconds": round(time.monotonic() - started)})


def _corpus_figures() -> dict[str, Any]:
    """Count both parts in documents, characters and tokens."""
    figures: dict[str, Any] = {"python": platform.python_version()}
    for part in ("train", "heldout"):
        texts = [text for _, text in documents(part)]
        figures[part] = {
            "documents": len(texts),
            "characters": sum(map(len, texts)),
            "tokens": sum(map(len, tokenize(texts))),
        }
    return figures


def tokenize(texts: list[str]) -> list[list[int]]:
    """Turn texts into token ids, with no special token added."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [each.ids for each in encoded]


def token_documents(part: Part) -> list[Tensor]:
    """Read one part of the corpus as one tensor of token ids a document."""
    return [torch.tensor(ids) for ids in tokenize([text for _, text in documents(part)])]


def pack(token_docs: list[Tensor], generator: torch.Generator | None = None) -> Tensor:
    """Lay documents end to end and cut them into contexts.

    Args:
        token_docs: Token ids of each document.
        generator: Draws the order of the documents, then of the contexts; None keeps both.

    Returns:
        Token ids, `[B, T]`. Every row starts with the end-of-text token, which also parts the
        documents; what does not fill a last row is dropped.
    """
    order = range(len(token_docs))
    if generator is not None:
        order = torch.randperm(len(token_docs), generator=generator).tolist()
    end = torch.tensor([END_OF_TEXT_ID])
    stream = torch.cat([piece for index in order for piece in (token_docs[index], end)])
    rows = stream.numel() // (CONTEXT_TOKENS - 1)
    stream_BT = stream[: rows * (CONTEXT_TOKENS - 1)].view(rows, CONTEXT_TOKENS - 1)
    contexts_BT = torch.cat([end.expand(rows, 1), stream_BT], dim=1)
    if generator is not None:
        contexts_BT = contexts_BT[torch.randperm(rows, generator=generator)]
    return contexts_BT


def batches(
    token_docs: list[Tensor], size: int, generator: torch.Generator
) -> Iterator[tuple[int, Tensor]]:
    """Yield epoch and batch `[size, T]` without end, packed anew for every epoch."""
    epoch = 0
    while True:
        contexts_BT = pack(token_docs, generator)
        for start in range(0, len(contexts_BT) - size + 1, size):
            yield epoch, contexts_BT[start : start + size]
        epoch += 1
