"""The captured model and the coder of one hookpoint, as explainers and scorers use them.

Shapes: K latents, P prefixes, T tokens, V vocabulary.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from lakeinterp.subject import outputs
from lakeinterp.subject.batching import CHUNK_BYTES, batches
from lakeinterp.subject.language import LanguageModel
from lakeinterp.subject.steering import Steering
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import RLock

    from torch import Tensor

    from lakeinterp.capture.model import SubjectModel
    from lakeinterp.capture.points import Point
    from lakeinterp.corpus import Tokenizer
    from lakeinterp.lake import Vocabulary
    from lakeinterp.subject.steering import Tuned

N_PREFIXES = 16
PREFIX_TOKENS = 16
"""Texts that directions are added to, and their length."""
_TOLERANCE = 0.05
"""A divergence is reached if it is this share off at most."""


class TokenValue(NamedTuple):
    """A token and what was measured of it."""

    token_id: int
    text: str
    value: float


class OutputTokens(NamedTuple):
    """The tokens whose logits one unit of a latent raises and lowers most, farthest first."""

    raised: tuple[TokenValue, ...]
    lowered: tuple[TokenValue, ...]


class Raised(NamedTuple):
    """What adding a latent's direction does to the next token."""

    strength: float
    """Length of what is added to each token's hidden state."""
    kl: float
    """Divergence of the next token that it makes, in nats."""
    is_reached: bool
    """Whether that is the divergence wanted; False where no strength tried is enough."""
    raised: tuple[TokenValue, ...]
    """By the change of their log-probability, in nats, mean over the prefixes."""
    lowered: tuple[TokenValue, ...]
    """By the same, falling; negative."""


class Fired(NamedTuple):
    """One text as the model reads it, with the activations of some latents."""

    pieces: tuple[str, ...]
    """Text of each token; joined they are the text."""
    values_TK: tuple[tuple[float, ...], ...]
    """Activation of each latent at each token, zero where it is silent."""

    def peak(self, place: int = 0) -> float:
        """Return the largest activation of a latent, by its place among those asked for."""
        return max((values[place] for values in self.values_TK), default=0.0)


class Subject:
    """One hookpoint of an opened capture. Its methods may be called from any thread."""

    def __init__(
        self,
        model: SubjectModel,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        point: Point,
        *,
        bos: int | None,
        value_dtype: torch.dtype,
        lock: RLock,
    ) -> None:
        self.model, self.tokenizer, self.vocabulary = model, tokenizer, vocabulary
        self.point, self.bos = point, bos
        self._value_dtype, self._lock = value_dtype, lock
        self._steering: Steering | None = None

    @cached_property
    def language(self) -> LanguageModel:
        """The model with its head.

        Raises:
            ConfigError: it predicts no next token.
        """
        return LanguageModel(self.model, self.tokenizer, self.bos)

    def output_logits(self, latents: Sequence[int], n: int = 10) -> list[OutputTokens]:
        """Return the tokens whose logits each latent's decoder row raises and lowers most.

        The row as it is stored, through the gain of the final norm and the unembedding, less the
        mean over the vocabulary (`outputs.direct_logits`). Special tokens are left out.

        Args:
            latents: Latents; many cost little more than one.
            n: Tokens of each kind.

        Raises:
            ConfigError: the model has no head, or the coder writes to no place that is added to
                the residual stream.
        """
        with self._lock:
            rows_KO = outputs.decoder_rows(self.point, latents)
            rows_KD = outputs.in_residual(self.language.model, self.point, rows_KO)
            found: list[OutputTokens] = []
            for part_CD in rows_KD.split(max(1, CHUNK_BYTES // (16 * len(self._text_V)))):
                logits_CV = outputs.direct_logits(self.model, part_CD).cpu()[:, self._text_V]
                logits_CV = logits_CV - logits_CV.mean(-1, keepdim=True)
                found += [
                    OutputTokens(self._tops(x_V, n), self._tops(-x_V, n, -1)) for x_V in logits_CV
                ]
        return found

    def raised(
        self,
        latents: Sequence[int],
        *,
        kl: float = 0.5,
        n: int = 10,
        prefixes: Sequence[Sequence[int]] | None = None,
    ) -> list[Raised]:
        """Return the tokens that become likelier when each latent's direction is added.

        Args:
            latents: Latents; they are run together.
            kl: Divergence of the next token that the strength is tuned to, in nats.
            n: Tokens of each kind.
            prefixes: Token ids of the texts that are steered; None takes texts that the model
                wrote itself, so that no document of the corpus takes part.

        Raises:
            ConfigError: the model has no head, or nothing can be added at the coder's target.
        """
        return self.steered(self.directions(latents), kl=kl, n=n, prefixes=prefixes)

    def directions(self, latents: Sequence[int]) -> Tensor:
        """Return the decoder rows of latents at the coder's target, [K, O], of length one."""
        with self._lock:
            rows_KO = outputs.decoder_rows(self.point, latents)
        unit_KO: Tensor = rows_KO / rows_KO.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        return unit_KO

    def steered(
        self,
        unit_KO: Tensor,
        *,
        kl: float = 0.5,
        n: int = 10,
        prefixes: Sequence[Sequence[int]] | None = None,
    ) -> list[Raised]:
        """Return what `raised` does, of any directions of length one."""
        found: list[Raised] = []
        if not len(unit_KO):
            return found
        with self._lock:
            steering = self.steering(prefixes)
            step = max(1, CHUNK_BYTES // (24 * steering.logp_PV.numel()))
            for part_CO in unit_KO.split(step):
                found += self._found(steering, steering.tune(part_CO, kl), kl, n)
        return found

    def _found(self, steering: Steering, tuned: Tuned, kl: float, n: int) -> list[Raised]:
        found = []
        for strength, reached, logp_PV in zip(*tuned, strict=True):
            change_V = (logp_PV - steering.logp_PV)[:, self._text_V].mean(0)
            found.append(
                Raised(
                    strength=float(strength),
                    kl=float(reached),
                    is_reached=abs(float(reached) - kl) <= _TOLERANCE * kl,
                    raised=self._tops(change_V, n),
                    lowered=self._tops(-change_V, n, -1),
                )
            )
        return found

    def continued(self, unit_O: Tensor, strength: float, n_tokens: int = 8) -> list[str]:
        """Return how the model goes on after each of its own prefixes with a direction added.

        Args:
            unit_O: As a row of `directions`.
            strength: As `raised` finds it; zero adds nothing.
            n_tokens: Tokens of each continuation; the likeliest is taken every time.
        """
        with self._lock:
            steering = self.steering()
            found = steering.continued(unit_O, strength, n_tokens)
        return [self.vocabulary.text(tokens) for tokens in found]

    def steering(self, prefixes: Sequence[Sequence[int]] | None = None) -> Steering:
        """Return the place that directions are added at, with the texts that are steered."""
        with self._lock:
            if prefixes is not None:
                return Steering(self.language, self.point.target, prefixes)
            if self._steering is None:
                self._steering = Steering(self.language, self.point.target, self.own_prefixes())
            return self._steering

    def own_prefixes(
        self, n: int = N_PREFIXES, n_tokens: int = PREFIX_TOKENS, seed: int = 0
    ) -> list[list[int]]:
        """Return beginnings of texts as the model writes them, drawn from what it predicts.

        Each begins with the mark of a beginning; without such a mark, with a token drawn evenly
        from the vocabulary. Equal on one machine for one seed.

        Args:
            n: Texts.
            n_tokens: Tokens of each besides the mark.
            seed: Of the draws.
        """
        generator = torch.Generator().manual_seed(int(digest(["own prefixes", seed], size=6), 16))
        allowed_V = self._text_V
        bos = self.bos if self.bos is not None else self.tokenizer.separator
        texts = [
            [int(allowed_V[torch.randint(len(allowed_V), (), generator=generator)])]
            if bos is None
            else [bos]
            for _ in range(n)
        ]
        for _ in range(n_tokens):
            tokens_PT = torch.tensor(texts)
            logits_PV = self.language.logits(tokens_PT, torch.ones_like(tokens_PT))[:, -1].cpu()
            chance_PV = logits_PV[:, allowed_V].softmax(-1)
            drawn_P = torch.multinomial(chance_PV, 1, generator=generator)[:, 0]
            for text, token in zip(texts, allowed_V[drawn_P].tolist(), strict=True):
                text.append(token)
        return texts

    def fires(self, texts: Sequence[str], latents: Sequence[int]) -> list[Fired]:
        """Return the activations of latents on new texts, as a capture of them would hold.

        Texts are read from the mark of a beginning, if the capture had one, and rounded as the
        capture was; markup that looks like a special token is text.

        Args:
            texts: Any texts; an empty one has no token. What is longer than the model reads is
                cut at its end.
            latents: Latents of the hookpoint.

        Returns:
            One a text, in their order.
        """
        front = [] if self.bos is None else [self.bos]
        limit = getattr(self.model.hf.config, "max_position_embeddings", None)
        room = None if limit is None else limit - len(front)
        ids = [tokens[:room] for tokens in self.tokenizer.encode(list(texts))] if texts else []
        rows = [torch.zeros(len(tokens), len(latents)) for tokens in ids]
        present = [i for i, tokens in enumerate(ids) if tokens]
        with self._lock:
            for batch in batches([[*front, *ids[i]] for i in present], self._bytes_per_token):
                read_BT = batch.mask_BT.bool()
                read_BT[:, : len(front)] = False
                values_NK = self._values(batch.tokens_BT, batch.mask_BT, read_BT, latents)
                lengths = [len(ids[present[row]]) for row in batch.place_B]
                for row, part_TK in zip(batch.place_B, values_NK.split(lengths), strict=True):
                    rows[present[row]] = part_TK
        return [
            Fired(self.vocabulary.pieces(tokens), tuple(map(tuple, values_TK.tolist())))
            for tokens, values_TK in zip(ids, rows, strict=True)
        ]

    def _values(
        self, tokens_BT: Tensor, mask_BT: Tensor, read_BT: Tensor, latents: Sequence[int]
    ) -> Tensor:
        """Return the activations of latents at the read tokens, [N, K], rounded as captured."""
        read = self.point.read
        x_BTD = self.model.hidden(tokens_BT, [read], mask_BT)[read]
        active = self.point.coder.encode(x_BTD[read_BT.to(x_BTD.device)])
        values_NK = torch.zeros(int(read_BT.sum()), len(latents))
        for k, latent in enumerate(latents):
            is_it_M = active.latent_M == latent
            value_M = active.value_M[is_it_M].to(self._value_dtype).float()
            values_NK[active.token_M[is_it_M].cpu(), k] = value_M.cpu()
        # Captures hold nothing of special tokens; a text has some where it has unknown words.
        special = torch.tensor(self.tokenizer.special, dtype=torch.int64)
        values_NK[torch.isin(tokens_BT[read_BT], special)] = 0
        return values_NK

    @cached_property
    def _text_V(self) -> Tensor:
        """Ids of the tokens that are text."""
        n_model = int(self.model.hf.get_input_embeddings().weight.shape[0])
        known = range(min(len(self.vocabulary.encoded), n_model))
        return torch.tensor([i for i in known if i not in self.vocabulary.special])

    @property
    def _bytes_per_token(self) -> int:
        return 64 * int(self.model.hf.get_input_embeddings().weight.shape[1])

    def _tops(self, value_V: Tensor, n: int, sign: int = 1) -> tuple[TokenValue, ...]:
        """Return the text tokens of the largest values, times a sign; of equal ones the first."""
        n = min(n, len(value_V))
        if not n:
            return ()
        (near,) = (value_V >= value_V.topk(n).values[-1]).nonzero(as_tuple=True)
        order = value_V[near].sort(descending=True, stable=True)
        ids = self._text_V[near[order.indices[:n]]].tolist()
        return tuple(
            TokenValue(i, self.vocabulary.text([i]), sign * value)
            for i, value in zip(ids, order.values[:n].tolist(), strict=True)
        )
