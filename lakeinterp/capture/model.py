"""The subject model under NNsight: hidden states at many modules in one pass, stopping early.

Shapes: B sequences, T tokens, D width.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lakeinterp.errors import ConfigError, MissingExtra, NotFound
from lakeinterp.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lakeinterp.coders import CoderSpec
    from lakeinterp.coders.base import Site
    from lakeinterp.config import CaptureConfig


class Read(NamedTuple):
    """One place in the model that hidden states are taken from."""

    module: str
    """Dotted path below the loaded model."""
    site: Site


class SubjectModel:
    """A Hugging Face model without its head, on one device."""

    def __init__(self, config: CaptureConfig) -> None:
        """Load the model of a folder or hub id.

        Raises:
            MissingExtra: transformers or nnsight is not installed.
            NotFound: there is no such model.
        """
        nnsight = _import_nnsight()
        self.device = _device(config.device)
        self.hf: Any = _load(config, self.device)
        self.revision: str = _revision(config, self.hf)
        self._traced: Any = nnsight.NNsight(self.hf)
        self._modules = {name for name, _ in self.hf.named_modules() if name}

    def resolve(self, spec: CoderSpec) -> Read:
        """Return where a coder reads in this model.

        Raises:
            NotFound: the model has no such module; the message names the nearest.
        """
        prefix = f"{getattr(self.hf, 'base_model_prefix', 'model')}."
        for name in (spec.module, spec.module.removeprefix(prefix)):
            if name in self._modules:
                return Read(name, spec.site)
        for name in (spec.module.removeprefix("model."), prefix + spec.module):
            if name in self._modules:
                return Read(name, spec.site)
        kind = type(self.hf).__name__
        raise NotFound("hookpoint", spec.module, self._modules, hint=f"in the model {kind}")

    def in_order(self, reads: Sequence[Read], tokens_BT: Tensor) -> list[Read]:
        """Return the reads in the order in which a forward pass reaches them."""
        seen: list[Read] = []
        hooks = []
        for read in reads:
            module = self.hf.get_submodule(read.module)
            note = _notes(seen, read)
            if read.site == "input":
                hooks.append(module.register_forward_pre_hook(note))
            else:
                hooks.append(module.register_forward_hook(note))
        try:
            with torch.no_grad():
                self.hf(tokens_BT.to(self.device), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return list(dict.fromkeys(seen))

    def hidden(self, tokens_BT: Tensor, reads: Sequence[Read]) -> dict[Read, Tensor]:
        """Run the model up to the last read and return the hidden states, each [B, T, D].

        Args:
            tokens_BT: Token ids.
            reads: In the order of `in_order`; the layers after the last one do not run.
        """
        import nnsight

        kept: dict[Read, Tensor] = {}
        tokens_BT = tokens_BT.to(self.device)
        with torch.no_grad(), self._traced.trace(tokens_BT, use_cache=False) as tracer:
            for read in reads:
                envoy = self._traced.get(read.module)
                value = envoy.output if read.site == "output" else envoy.input
                value = value[0] if isinstance(value, tuple) else value
                kept[read] = nnsight.save(value)
            tracer.stop()
        return kept


def _import_nnsight() -> Any:
    # Read by nnsight on import: keeps it from adding `.save` to every object of the process.
    os.environ.setdefault("NNSIGHT_CONFIG", str(Path(__file__).with_name("nnsight.yaml")))
    try:
        import nnsight
    except ImportError as exc:
        raise MissingExtra("capture", "capture", "nnsight") from exc
    return nnsight


def _notes(seen: list[Read], read: Read) -> Any:
    def note(*_: object) -> None:
        seen.append(read)

    return note


def _device(wanted: str) -> torch.device:
    if wanted != "auto":
        try:
            return torch.device(wanted)
        except RuntimeError as exc:
            raise ConfigError(f"capture.device: {wanted!r} is no device of torch") from exc
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _load(config: CaptureConfig, device: torch.device) -> Any:
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ImportError as exc:
        raise MissingExtra("capture", "capture", "transformers") from exc
    if not config.model:
        raise ConfigError("capture.model: give a model folder or hub id")
    dtype: Any = "auto" if config.dtype == "auto" else getattr(torch, config.dtype)
    if config.dtype == "auto" and device.type == "cpu":
        dtype = torch.float32
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(config.model, revision=config.model_revision, dtype=dtype)
    except (OSError, ValueError) as exc:
        line = str(exc).strip().splitlines()[0]
        raise NotFound("model", config.model, hint=line) from exc
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    return model.to(device).eval().requires_grad_(False)


def _revision(config: CaptureConfig, model: Any) -> str:
    if Path(config.model).is_dir():
        return fingerprint(config.model)
    return str(getattr(model.config, "_commit_hash", None) or config.model_revision or "unknown")
