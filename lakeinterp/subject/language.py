"""A causal language model: losses of texts and distributions of the next token, in real batches.

Shapes: B texts, T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from lakeinterp.capture.model import SubjectModel
from lakeinterp.config import CaptureConfig, CorpusConfig
from lakeinterp.corpus import Tokenizer
from lakeinterp.errors import ConfigError
from lakeinterp.subject.batching import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class LanguageModel:
    """A model with its head and its tokenizer."""

    def __init__(self, model: SubjectModel, tokenizer: Tokenizer, bos: int | None) -> None:
        """Look whether the model predicts the next token.

        Args:
            model: Loaded with `head=True`.
            tokenizer: Its tokenizer.
            bos: The id in front of every text, None for none.

        Raises:
            ConfigError: its files hold no head, or a token's prediction depends on later ones.
        """
        self.model, self.tokenizer, self.bos = model, tokenizer, bos
        if model.causal is None:
            raise ConfigError(f"{_name(model)} has no output layer: it predicts no tokens")
        found = getattr(model.hf.config, "max_position_embeddings", None)
        self.n_positions: int | None = found
        """Longest text it reads, in tokens; None if that is not known."""
        self._logits_bytes = 12 * int(model.causal.get_output_embeddings().weight.shape[0])
        forward = getattr(model.causal, "forward", model.causal)
        self.keeps = "logits_to_keep" in inspect.signature(forward).parameters
        """Whether its head can run at some places alone."""
        self._check_causal()

    def start(self, text: str = "") -> list[int]:
        """Return the ids of a text's start: the mark of a beginning, if there is one, and it."""
        front = [] if self.bos is None else [self.bos]
        return front + (self.tokenizer.encode([text])[0] if text else [])

    def logits(self, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the logits of the token after each, [B, T, V], float32, on the model's device.

        Args:
            tokens_BT: Token ids.
            mask_BT: 1 where there is a token; padding stands on the right.
        """
        return self._logits(tokens_BT, mask_BT, {})

    def last_logits(self, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the logits of the token after each text, [B, V]; arguments as `logits`."""
        last_B = mask_BT.sum(1) - 1
        if self.keeps:
            # The head runs at these places alone; texts of one length have one of them.
            kept_U, last_B = last_B.unique(return_inverse=True)
            some = {"logits_to_keep": kept_U.to(self.model.device)}
            logits_BUV = self._logits(tokens_BT, mask_BT, some)
        else:
            logits_BUV = self._logits(tokens_BT, mask_BT, {})
        last_B = last_B.to(logits_BUV.device)
        return logits_BUV[torch.arange(len(last_B), device=last_B.device), last_B]

    def _logits(self, tokens_BT: Tensor, mask_BT: Tensor, some: dict[str, Tensor]) -> Tensor:
        device = self.model.device
        with torch.no_grad():
            out = self.model.causal(
                tokens_BT.to(device), attention_mask=mask_BT.to(device), use_cache=False, **some
            )
        logits_BTV: Tensor = out.logits.float()
        return logits_BTV

    def losses(
        self, contexts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Return the losses of texts, each after a context.

        Args:
            contexts: Token ids in front of each text, as many as there are texts, none empty: what
                is in front of a first token decides its loss.
            texts: Token ids; what is losses are taken of.

        Returns:
            For each text one loss a token, in nats; in the order given.

        Raises:
            ValueError: a context is empty, or a text with its context is longer than the model
                reads (`n_positions`).
        """
        if any(not context for context in contexts):
            raise ValueError("a context is empty: a first token has no loss")
        whole = [[*c, *t] for c, t in zip(contexts, texts, strict=True)]
        if self.n_positions and any(len(tokens) > self.n_positions for tokens in whole):
            raise ValueError(f"a text is longer than the {self.n_positions} tokens it can read")
        found: list[list[float]] = [[] for _ in texts]
        for batch in batches(whole, self._logits_bytes):
            logits_BTV = self.logits(batch.tokens_BT, batch.mask_BT)
            next_BT = batch.tokens_BT.to(logits_BTV.device).roll(-1, 1)
            loss_BT = torch.nn.functional.cross_entropy(
                logits_BTV.flatten(0, 1), next_BT.flatten(), reduction="none"
            ).view_as(next_BT)
            for row_T, i in zip(loss_BT.cpu(), batch.place_B, strict=True):
                first = len(contexts[i]) - 1
                found[i] = row_T[first : first + len(texts[i])].tolist()
        return found

    def _check_causal(self) -> None:
        ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
        first_B = self.logits(ids, torch.ones_like(ids))[:, 0]
        if not torch.allclose(first_B[0], first_B[1], rtol=1e-2, atol=1e-3):
            raise ConfigError(f"{_name(self.model)} reads both ways: it predicts no next token")


def open_language_model(
    name: str, revision: str | None, settings: CaptureConfig, *, bos: bool = True
) -> LanguageModel:
    """Load a causal language model of a folder or hub id.

    Args:
        name: Folder or hub id.
        revision: Of a hub model.
        settings: `device` and `device_map` say where it is put.
        bos: Whether texts begin with its mark of a beginning, if it has one.

    Raises:
        MissingExtra: transformers or nnsight is not installed.
        NotFound: there is no such model.
        ConfigError: it is no causal language model.
    """
    place = settings.model_dump(include={"device", "device_map"})
    tokenizer = Tokenizer(name, revision)
    model = SubjectModel(
        CaptureConfig(model=name, model_revision=revision, **place), head=True
    )  # fmt: skip
    front = tokenizer.bos(CorpusConfig(bos="auto" if bos else "never"))
    return LanguageModel(model, tokenizer, front)


def _name(model: SubjectModel) -> Any:
    return getattr(model.hf, "name_or_path", "") or type(model.hf).__name__
