"""The subject model under NNsight: hidden states at many modules in one pass, stopping early.

Shapes: B sequences, T tokens, D width.
"""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from lakeinterp.capture.loading import find_device, load_model, redraw, revision
from lakeinterp.coders import hooks
from lakeinterp.coders.formats.neurons import DOWN_PROJECTIONS
from lakeinterp.errors import MissingExtra, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lakeinterp.coders import CoderSpec
    from lakeinterp.coders.base import Site
    from lakeinterp.config import CaptureConfig

_EPS = ("eps", "variance_epsilon")
"""How norms call the number that keeps them from dividing by zero."""


class Read(NamedTuple):
    """One place in the model that hidden states are taken from."""

    module: str
    """Dotted path below the loaded model."""
    site: Site
    take: Literal["whole", "centred", "unit"] = "whole"
    """`centred` is less the mean over the width; `unit` is what the module, a norm, makes of its
    input before gain and bias."""


class SubjectModel:
    """A Hugging Face model, on one device or spread over several.

    Its modules are named from below the head, whether that was loaded or not.
    """

    def __init__(self, config: CaptureConfig, *, head: bool = False) -> None:
        """Load the model of a folder or hub id.

        Args:
            config: The settings.
            head: Also what turns hidden states into logits; then `causal` holds the whole.

        Raises:
            MissingExtra: transformers or nnsight is not installed.
            NotFound: there is no such model.
            ConfigError: its folder is torn, there is no such device, or it does not run as asked.
        """
        nnsight = _import_nnsight()
        loaded = load_model(config, find_device(config.device), head=head)
        self.causal: Any = loaded if head and loaded.base_model is not loaded else None
        """The model with its head; None if it was not asked for, or the files hold none."""
        self.hf: Any = loaded if self.causal is None else loaded.base_model
        self.device: torch.device = _first_device(self.hf)
        """Where token ids are put."""
        if config.control == "random-model":
            redraw(self.hf)
        self.revision: str = revision(config, self.hf)
        self.dtype = str(self.hf.dtype).removeprefix("torch.")
        with warnings.catch_warnings():
            # It warns of modules called `output`, as every BERT has; they are found by their path.
            warnings.filterwarnings("ignore", "Module .* has a submodule named", UserWarning)
            self._traced: Any = nnsight.NNsight(self.hf)
        self._envoys = {
            path.partition(".")[2]: envoy for path, envoy in self._traced.named_modules()
        }
        self._modules = {name for name, _ in self.hf.named_modules() if name}
        takes = inspect.signature(self.hf.forward).parameters
        self._options: dict[str, Any] = {"use_cache": False} if "use_cache" in takes else {}

    def resolve(self, spec: CoderSpec) -> Read:
        """Return where a coder reads in this model.

        Raises:
            NotFound: the model has no such module; the message names the nearest.
        """
        return self._read(spec.module, spec.site, spec.centred)

    def target(self, spec: CoderSpec) -> Read:
        """Return where what a coder decodes to is: its own place, or what a transcoder predicts.

        Raises:
            NotFound: as `resolve`.
        """
        if spec.target is not None:
            return self._read(spec.target, spec.target_site, spec.centred)
        if spec.architecture.endswith("transcoder"):
            return Read(self.resolve(spec).module, "output")
        return self.resolve(spec)

    def device_of(self, read: Read) -> torch.device:
        """Return where a place's hidden states are, and so its coder."""
        module = self.hf.get_submodule(read.module)
        return _first_device(module, self.device)

    def down_projections(self) -> dict[str, tuple[str, int]]:
        """Return every MLP with its down projection and the width of what that reads."""
        found = {}
        for name, module in self.hf.named_modules():
            parent, _, last = name.rpartition(".")
            if last in DOWN_PROJECTIONS and parent.rpartition(".")[2] == "mlp":
                width = getattr(module, "in_features", None) or module.weight.shape[0]
                found[parent] = (name, int(width))
        return found

    def module_path(self, name: str) -> str:
        """Return a module's path below the loaded model, which has no head.

        Raises:
            NotFound: the model has no such module; the message names the nearest.
        """
        prefix = f"{getattr(self.hf, 'base_model_prefix', 'model')}."
        bare = name.removeprefix(prefix).removeprefix("model.")
        inner = bare.removeprefix("language_model.")
        for path in (name, name.removeprefix(prefix), bare, inner, prefix + name):
            for full in (path, f"language_model.{path}"):
                if full in self._modules:
                    return full
        kind = type(self.hf).__name__
        raise NotFound("hookpoint", name, self._modules, hint=f"in the model {kind}")

    def _read(self, name: str, site: Site, centred: bool) -> Read:
        take: Literal["whole", "centred"] = "centred" if centred else "whole"
        if not hooks.is_hook(name):
            return Read(self.module_path(name), site, take)
        located = hooks.locate(name, self.hf.config)
        module = self.module_path(located.module)
        return Read(module, located.site, "unit" if located.unit else take)

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
                self.hf(tokens_BT.to(self.device), **self._options)
        finally:
            for hook in hooks:
                hook.remove()
        return list(dict.fromkeys(seen))

    def hidden(
        self,
        tokens_BT: Tensor,
        reads: Sequence[Read],
        mask_BT: Tensor | None = None,
        *,
        positions_BT: Tensor | None = None,
    ) -> dict[Read, Tensor]:
        """Run the model up to the last read and return the hidden states, each [B, T, D].

        Args:
            tokens_BT: Token ids.
            reads: In the order of `in_order`; the layers after the last one do not run.
            mask_BT: Zero where a token is padding; None where none is.
            positions_BT: As `boundaries.positions` returns them; None counts through a sequence.
        """
        import nnsight

        kept: dict[Read, Tensor] = {}
        tokens_BT, options = tokens_BT.to(self.device), self._options
        if mask_BT is not None:
            options = {**options, "attention_mask": mask_BT.to(self.device)}
        if positions_BT is not None:
            options = {**options, "position_ids": positions_BT.to(self.device)}
        with torch.no_grad(), self._traced.trace(tokens_BT, **options) as tracer:
            for read in reads:
                envoy = self._envoys[read.module]
                value = envoy.output if read.site == "output" else envoy.input
                value = value[0] if isinstance(value, tuple) else value
                kept[read] = nnsight.save(value)
            tracer.stop()
        return {read: self._take(read, value) for read, value in kept.items()}

    def _take(self, read: Read, x_BTD: Tensor) -> Tensor:
        if read.take == "whole":
            return x_BTD
        if read.take == "centred":
            return x_BTD - x_BTD.mean(-1, keepdim=True)
        norm, x_BTD = self.hf.get_submodule(read.module), x_BTD.float()
        if isinstance(norm, torch.nn.LayerNorm):
            x_BTD = x_BTD - x_BTD.mean(-1, keepdim=True)
        eps = next(getattr(norm, name) for name in _EPS if hasattr(norm, name))
        return x_BTD * torch.rsqrt(x_BTD.square().mean(-1, keepdim=True) + eps)


def _first_device(module: Any, default: torch.device | None = None) -> torch.device:
    """Return where a module's weights are; those that accelerate keeps elsewhere do not count."""
    found = (weight.device for weight in module.parameters() if weight.device.type != "meta")
    return next(found, default or torch.device("cpu"))


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
