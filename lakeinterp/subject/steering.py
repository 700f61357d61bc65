"""A direction added to hidden states, as strong as it takes to change the next token by so much.

Shapes: K directions, P prefixes, B = K x P texts, T tokens, O width, V vocabulary.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lakeinterp.errors import ConfigError
from lakeinterp.subject.batching import CHUNK_BYTES, padded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from lakeinterp.capture.model import Read
    from lakeinterp.subject.language import LanguageModel

_DOUBLINGS = 12
"""Strengths are sought up to the states' mean norm times two to this power."""
_STEPS = 30
_TOLERANCE = 0.01
"""A divergence this share off the wanted one is near enough."""


class Tuned(NamedTuple):
    """Directions with their strengths."""

    strength_K: Tensor
    """Length of what is added to the hidden states of every token; float32."""
    kl_K: Tensor
    """Divergence of the next token reached, in nats, mean over the prefixes; float64."""
    logp_KPV: Tensor
    """Log-probabilities of the token after each prefix, steered."""


class Steering:
    """Prefixes and the place where directions are added after every token but special ones."""

    def __init__(
        self, language: LanguageModel, target: Read, prefixes: Sequence[Sequence[int]]
    ) -> None:
        """Run the prefixes as they are.

        Args:
            language: The subject model.
            target: Where directions are added.
            prefixes: Token ids, with the mark of a beginning; none may be empty.

        Raises:
            ConfigError: the place's states are normalised: what is added there is no direction.
        """
        if target.take == "unit":
            raise ConfigError(
                f"the {target.site} of {target.module} is normalised: nothing can be added there"
            )
        self.language, self.target = language, target
        self.prefixes = [list(prefix) for prefix in prefixes]
        self._special = torch.tensor(language.tokenizer.special, dtype=torch.int64)
        tokens_PT, mask_PT = padded(self.prefixes)
        (states_PTO,) = language.model.hidden(tokens_PT, [target], mask_PT).values()
        keep_PT = self._steered(tokens_PT, mask_PT).to(states_PTO.device)
        self.scale = float(states_PTO.float().norm(dim=-1)[keep_PT].mean())
        """Mean norm of the states that are added to."""
        self.logp_PV = self._next(tokens_PT, mask_PT, None)
        """Log-probabilities of the token after each prefix, as they are."""

    def tune(self, unit_KO: Tensor, kl: float) -> Tuned:
        """Find how far along each direction the next token diverges by so much.

        KL(steered || unsteered) of the next token, mean over the prefixes, is continuous in the
        strength and zero at zero: the strength is at least doubled until the divergence is
        exceeded, and then sought between the last two.

        Args:
            unit_KO: Directions, each of length one.
            kl: Wanted divergence, in nats.

        Returns:
            Strengths and what they reach; where a direction does not reach it within 4096 times
            the mean norm of the states, the strongest that was tried.
        """
        low_K, at_low_K = torch.zeros(len(unit_KO)), torch.zeros(len(unit_KO), dtype=torch.float64)
        high_K = torch.full((len(unit_KO),), self.scale / 16)
        at_high_K = self.divergence(unit_KO, high_K)
        for _ in range(_DOUBLINGS + 4):
            is_short_K = at_high_K < kl
            if not is_short_K.any():
                break
            low_K, at_low_K = low_K.clone(), at_low_K.clone()
            low_K[is_short_K], at_low_K[is_short_K] = high_K[is_short_K], at_high_K[is_short_K]
            high_K = torch.where(is_short_K, _farther(high_K, at_high_K, kl), high_K)
            high_K = high_K.clamp(max=self.scale * 2**_DOUBLINGS)
            at_high_K[is_short_K] = self.divergence(unit_KO[is_short_K], high_K[is_short_K])
        strength_K, found_K = high_K.clone(), at_high_K.clone()
        for _ in range(_STEPS):
            is_open_K = (at_high_K >= kl) & ((found_K - kl).abs() > _TOLERANCE * kl)
            if not is_open_K.any():
                break
            strength_K[is_open_K] = _between(low_K, at_low_K, high_K, at_high_K, kl)[is_open_K]
            found_K[is_open_K] = self.divergence(unit_KO[is_open_K], strength_K[is_open_K])
            is_high_K, is_low_K = is_open_K & (found_K >= kl), is_open_K & (found_K < kl)
            high_K = torch.where(is_high_K, strength_K, high_K)
            at_high_K = torch.where(is_high_K, found_K, at_high_K)
            low_K = torch.where(is_low_K, strength_K, low_K)
            at_low_K = torch.where(is_low_K, found_K, at_low_K)
        logp_KPV = self.steered(unit_KO, strength_K)
        return Tuned(strength_K, self._kl(logp_KPV), logp_KPV)

    def divergence(self, unit_KO: Tensor, strength_K: Tensor) -> Tensor:
        """Return KL(steered || unsteered) of the next token, mean over the prefixes, [K]."""
        return self._kl(self.steered(unit_KO, strength_K))

    def steered(self, unit_KO: Tensor, strength_K: Tensor) -> Tensor:
        """Return the log-probabilities of the token after each prefix, [K, P, V], steered."""
        tokens_PT, mask_PT = padded(self.prefixes)
        delta_KO = unit_KO * strength_K[:, None].to(unit_KO.device)
        n_prefixes, n_vocabulary = self.logp_PV.shape
        per_token = 12 * n_vocabulary if not self.language.keeps else 64 * unit_KO.shape[1]
        step = max(1, CHUNK_BYTES // (per_token * tokens_PT.numel()))
        found = []
        for part_CO in delta_KO.split(step):
            n = len(part_CO)
            logp_BV = self._next(
                tokens_PT.repeat(n, 1),
                mask_PT.repeat(n, 1),
                part_CO.repeat_interleave(n_prefixes, 0),
            )
            found.append(logp_BV.view(n, n_prefixes, n_vocabulary))
        return torch.cat(found)

    def continued(self, unit_O: Tensor, strength: float, n_tokens: int) -> list[list[int]]:
        """Return the likeliest next tokens after each prefix, one after the other, steered.

        Args:
            unit_O: Direction of length one.
            strength: Zero continues unsteered.
            n_tokens: Tokens of each continuation.
        """
        texts = [list(prefix) for prefix in self.prefixes]
        for _ in range(n_tokens):
            tokens_PT, mask_PT = padded(texts)
            delta_PO = (unit_O * strength).expand(len(texts), -1)
            chosen_P = self._next(tokens_PT, mask_PT, delta_PO).argmax(-1)
            for text, token in zip(texts, chosen_P.tolist(), strict=True):
                text.append(token)
        return [text[len(p) :] for text, p in zip(texts, self.prefixes, strict=True)]

    def _kl(self, logp_KPV: Tensor) -> Tensor:
        logp_KPV, base_PV = logp_KPV.double(), self.logp_PV.double()
        kl_K: Tensor = (logp_KPV.exp() * (logp_KPV - base_PV)).sum(-1).mean(-1)
        return kl_K

    def _next(self, tokens_BT: Tensor, mask_BT: Tensor, delta_BO: Tensor | None) -> Tensor:
        """Return the log-probabilities of the token after each text, [B, V], on the CPU."""
        with added(self.language, self.target, delta_BO, self._steered(tokens_BT, mask_BT)):
            logits_BV = self.language.last_logits(tokens_BT, mask_BT)
        logp_BV: Tensor = logits_BV.log_softmax(-1).cpu()
        return logp_BV

    def _steered(self, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return which tokens' states are added to: those that latents are captured at."""
        return (mask_BT > 0) & ~torch.isin(tokens_BT, self._special)


def _farther(high_K: Tensor, at_high_K: Tensor, kl: float) -> Tensor:
    """Return a strength at which the divergence should exceed the wanted one, 2 to 16 times as far.

    It grows about as the square of the strength; a tenth more makes up for what is lost of that.
    """
    ratio_K = 1.1 * (kl / at_high_K.clamp_min(1e-12)).sqrt()
    farther_K: Tensor = high_K * ratio_K.clamp(2, 16).float()
    return farther_K


def _between(
    low_K: Tensor, at_low_K: Tensor, high_K: Tensor, at_high_K: Tensor, kl: float
) -> Tensor:
    """Return where between two strengths the divergence should be the wanted one, [K].

    It grows about as the square of the strength: its root is taken to be straight in between. The
    outermost tenths are left out, so that the interval shrinks whatever the truth.
    """
    root_low_K, root_high_K = at_low_K.clamp_min(0).sqrt(), at_high_K.sqrt()
    share_K = (kl**0.5 - root_low_K) / (root_high_K - root_low_K).clamp_min(1e-12)
    between_K: Tensor = low_K + share_K.clamp(0.1, 0.9).float() * (high_K - low_K)
    return between_K


@contextmanager
def added(
    language: LanguageModel, target: Read, delta_BO: Tensor | None, keep_BT: Tensor
) -> Iterator[None]:
    """While this is open, add a direction to the hidden states at a place, one for each text.

    Args:
        language: The subject model.
        target: The place.
        delta_BO: What is added; None adds nothing.
        keep_BT: At which tokens.
    """
    if delta_BO is None:
        yield
        return
    module = language.model.hf.get_submodule(target.module)

    def plus(x_BTO: Tensor) -> Tensor:
        delta_BTO = delta_BO[:, None, :] * keep_BT[..., None].to(delta_BO.device)
        return x_BTO + delta_BTO.to(x_BTO)

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (plus(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: plus(kwargs[name])}

    def after(_: Any, __: Any, output: Any) -> Any:
        return (plus(output[0]), *output[1:]) if isinstance(output, tuple) else plus(output)

    hook = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if target.site == "input"
        else module.register_forward_hook(after)
    )
    try:
        yield
    finally:
        hook.remove()
