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


def load_model(config: CaptureConfig, device: torch.device) -> Any:
    """Return the model without its head, ready to run.

    Args:
        config: The settings; `device_map` goes before the device.
        device: Where the whole model is put otherwise.

    Raises:
        MissingExtra: transformers, or bitsandbytes for `quantization`, is not installed.
        NotFound: there is no such model.
        ConfigError: its folder is torn, or it does not run as the settings ask.
    """
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ImportError as exc:
        raise MissingExtra("capture", "capture", "transformers") from exc
    if not config.model:
        raise ConfigError("capture.model: give a model folder or hub id")
    hub.require("model", config.model)
    options = _options(config, device)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(config.model, **options)
    except ImportError as exc:
        raise ConfigError(f"capture.attention: {_line(exc)}") from exc
    except hub.failures() as exc:
        if not Path(config.model).is_dir():
            raise hub.not_found("model", config.model, exc) from exc
        raise ConfigError(f"capture.model: {config.model}: {_line(exc)}") from exc
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    if "device_map" not in options:
        model = model.to(device)
    return model.eval().requires_grad_(False)


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
