"""EleutherAI sparsify folders: `<hookpoint>/cfg.json` and `<hookpoint>/sae.safetensors`.

Top-k and group-max coders (Gao et al. 2024, arXiv 2406.04093, section 2.3, for top-k): SAEs read
a module's output, transcoders its input. An SAE subtracts `b_dec` before encoding, a transcoder
does not; a skip connection adds `W_skip x` to what is decoded.

Shapes: N tokens, C tokens of a chunk, D width, L latents, K kept latents, M activations.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from lakeinterp.coders.base import Active, CoderSpec
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
_BYTES_PER_PREACTIVATION = 4


def read_spec(folder: Path, hookpoint: str) -> CoderSpec:
    """Read a coder's place and size from its `cfg.json` and the header of its weights.

    Raises:
        ConfigError: a file is missing or does not hold what this format needs.
    """
    config = _config(folder)
    shapes = _shapes(folder)
    if "encoder.weight" not in shapes:
        raise ConfigError(
            f"coder {folder.name}: {WEIGHTS} holds {sorted(shapes)}, expected encoder.weight, "
            "encoder.bias, W_dec and b_dec"
        )
    n_latents, d_in = shapes["encoder.weight"]
    activation = config.get("activation", "topk")
    if activation not in ("topk", "groupmax"):
        raise ConfigError(f"coder {folder.name}: unknown activation {activation!r} in {CONFIG}")
    reads_input = bool(config.get("transcode", False))
    kind = "transcoder" if reads_input else "sae"
    if "W_skip" in shapes:
        kind = f"skip-{kind}"
    return CoderSpec(
        hookpoint=hookpoint,
        format="sparsify",
        architecture=f"{activation}-{kind}",
        module=hookpoint,
        site="input" if reads_input else "output",
        d_in=d_in,
        n_latents=n_latents,
        k=int(config["k"]),
    )


class SparsifyCoder:
    """A loaded sparsify coder, in float32."""

    def __init__(
        self, folder: Path, spec: CoderSpec, device: torch.device, chunk_bytes: int
    ) -> None:
        from safetensors.torch import load_file

        weights = {n: t.to(device, torch.float32) for n, t in load_file(folder / WEIGHTS).items()}
        self.spec = spec
        self._encoder_LD = weights["encoder.weight"]
        self._decoder_LD = weights["W_dec"]
        self._b_dec_D = weights["b_dec"]
        self._skip_DD = weights.get("W_skip")
        self._bias_L = weights["encoder.bias"]
        if spec.site == "output":
            # (x - b_dec) E + b = x E + (b - b_dec E): one pass over the states less.
            self._bias_L = self._bias_L - self._encoder_LD @ self._b_dec_D
        self._groups = spec.architecture.startswith("groupmax")
        self._chunk = max(1, chunk_bytes // (_BYTES_PER_PREACTIVATION * spec.n_latents))

    def encode(self, x_ND: Tensor) -> Active:
        """Return the positive ones among the top k (or group maxima), in token order."""
        chunks = [self._kept(x_CD) for x_CD in x_ND.to(self._encoder_LD.dtype).split(self._chunk)]
        value_NK = torch.cat([values for values, _ in chunks])
        latent_NK = torch.cat([latents for _, latents in chunks])
        active_NK = value_NK > 0
        token_M = active_NK.nonzero()[:, 0]
        return Active(token_M, latent_NK[active_NK].to(torch.int32), value_NK[active_NK])

    def decode(self, active: Active, x_ND: Tensor) -> Tensor:
        """Return sum of value x decoder row, plus `b_dec`, plus the skip connection if any."""
        x_ND = x_ND.to(self._decoder_LD.dtype)
        out_ND = self._b_dec_D.expand(len(x_ND), -1).clone()
        rows_MD = self._decoder_LD[active.latent_M.long()] * active.value_M[:, None]
        out_ND.index_add_(0, active.token_M, rows_MD)
        return out_ND if self._skip_DD is None else out_ND + x_ND @ self._skip_DD.T

    def _kept(self, x_CD: Tensor) -> tuple[Tensor, Tensor]:
        k = self.spec.k or 1
        pre_CL = torch.addmm(self._bias_L, x_CD, self._encoder_LD.T)
        if not self._groups:
            values_CK, latents_CK = pre_CL.topk(k, dim=-1, sorted=False)
            return values_CK, latents_CK
        size = self.spec.n_latents // k
        values_CK, within_CK = pre_CL.view(-1, k, size).max(dim=-1)
        return values_CK, within_CK + torch.arange(k, device=x_CD.device) * size


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as exc:
        raise ConfigError(f"coder {folder.name}: cannot read {CONFIG}: {exc}") from exc
    if "k" not in config:
        raise ConfigError(f"coder {folder.name}: {CONFIG} has no k")
    return config


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS, framework="pt") as weights:
            return {n: tuple(weights.get_slice(n).get_shape()) for n in weights.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as exc:
        raise ConfigError(f"coder {folder.name}: cannot read {WEIGHTS}: {exc}") from exc
