"""A model of a folder or hub id, loaded as the settings say: precision, devices, attention."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lakeinterp import hub
from lakeinterp.errors import ConfigError, MissingExtra
from lakeinterp.fingerprint import fingerprint
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from lakeinterp.config import CaptureConfig


def load_model(config: CaptureConfig, device: torch.device, *, head: bool = False) -> Any:
    """Return the model, ready to run.

    Args:
        config: The settings; `device_map` goes before the device.
        device: Where the whole model is put otherwise.
        head: With what turns hidden states into logits of the next token, if its files hold it;
            otherwise without.

    Raises:
        MissingExtra: transformers, or bitsandbytes for `quantization`, is not installed.
        NotFound: there is no such model.
        ConfigError: its folder is torn, or it does not run as the settings ask.
    """
    if find_spec("transformers") is None:
        raise MissingExtra("capture", "capture", "transformers")
    if not config.model:
        raise ConfigError("capture.model: give a model folder or hub id")
    hub.require("model", config.model)
    options = _options(config, device)
    try:
        with hub.quiet():
            model = _from_files(config.model, options, head)
    except ImportError as exc:
        raise ConfigError(f"capture.attention: {_line(exc)}") from exc
    except hub.failures() as exc:
        if not Path(config.model).is_dir():
            raise hub.not_found("model", config.model, exc) from exc
        raise ConfigError(f"capture.model: {config.model}: {_line(exc)}") from exc
    if "device_map" not in options:
        model = model.to(device)
    return model.eval().requires_grad_(False)


def _from_files(name: str, options: dict[str, Any], head: bool) -> Any:
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if head:
        kind = type(AutoConfig.from_pretrained(name, revision=options["revision"]))
        if kind in MODEL_FOR_CAUSAL_LM_MAPPING:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name, output_loading_info=True, **options
            )
            model, info = loaded
            start = f"{model.base_model_prefix}."
            # What the files lack was drawn at random.
            if all(key.startswith(start) for key in info["missing_keys"]):
                return model
    return AutoModel.from_pretrained(name, **options)


def find_device(wanted: str) -> torch.device:
    """Return a device of this machine.

    Raises:
        ConfigError: torch knows no such device, or the machine has fewer.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as exc:
        raise ConfigError(f"capture.device: {wanted!r} is no device of torch") from exc
    n_devices = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= n_devices:
        raise ConfigError(f"capture.device: {wanted!r}, but torch sees {n_devices} GPUs here")
    return device


def revision(config: CaptureConfig, model: Any) -> str:
    """Return what tells this model's weights from others: the folder's digest, the hub's commit."""
    if Path(config.model).is_dir():
        return fingerprint(config.model)
    return str(getattr(model.config, "_commit_hash", None) or config.model_revision or "unknown")


def redraw(model: Any) -> None:
    """Draw every weight matrix anew, of the mean and spread of the trained one; keep vectors.

    After Heap et al. 2025 (arXiv 2501.17727), who code transformers with Gaussian weights; that
    each matrix keeps its scale keeps hidden states of about the size that coders were trained on.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                continue
            seed = int(digest(["random model", name], size=6), 16)
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(weight.shape, generator=generator)
            trained = weight.float()
            weight.copy_(drawn.to(weight.device) * trained.std() + trained.mean())


def _options(config: CaptureConfig, device: torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` is given."""
    dtype: Any = "auto" if config.dtype == "auto" else getattr(torch, config.dtype)
    if config.dtype == "auto" and device.type == "cpu":
        dtype = torch.float32
    options: dict[str, Any] = {"revision": config.model_revision, "dtype": dtype}
    if config.attention is not None:
        options["attn_implementation"] = config.attention
    if config.device_map is not None:
        options["device_map"] = config.device_map
    if config.quantization != "none":
        options["quantization_config"] = _quantized(config)
        options.setdefault("device_map", {"": device})
    return options


def _quantized(config: CaptureConfig) -> Any:
    if config.control == "random-model":
        raise ConfigError(
            "capture.quantization: weights drawn anew are not quantized; leave it out with "
            "capture.control = random-model"
        )
    if find_spec("bitsandbytes") is None:
        raise MissingExtra(
            f"capture.quantization = {config.quantization}", "quantized", "bitsandbytes"
        )
    from transformers import BitsAndBytesConfig

    is_8bit = config.quantization == "8bit"
    return BitsAndBytesConfig(load_in_8bit=is_8bit, load_in_4bit=not is_8bit)


def _line(exc: BaseException) -> str:
    return str(exc).strip().split("\n", 1)[0]
