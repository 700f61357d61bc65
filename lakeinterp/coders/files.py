"""Coder files read with one clear line for every way they can be broken.

Pickles are only ever read with `weights_only=True`, which runs no code of the file.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        ConfigError: the file is missing, torn or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise _broken(path, exc) from exc
    if not isinstance(found, dict):
        raise _broken(path, "it holds no JSON object")
    return found


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of a safetensors file, from its header alone.

    Raises:
        ConfigError: the file is missing or torn.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {n: tuple(file.get_slice(n).get_shape()) for n in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as exc:
        raise _broken(path, exc) from exc


def tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file in float32 on a device.

    Raises:
        ConfigError: the file is missing or torn.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {n: t.to(device, torch.float32) for n, t in load_file(path).items()}
    except (OSError, SafetensorError) as exc:
        raise _broken(path, exc) from exc


def arrays(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every array of an `.npz` file, from its headers alone.

    Raises:
        ConfigError: the file is missing or torn.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    major = np.lib.format.read_magic(member)[0]
                    read = np.lib.format.read_array_header_1_0
                    read = read if major == 1 else np.lib.format.read_array_header_2_0
                    found[name.removesuffix(".npy")] = tuple(read(member)[0])
    except (OSError, ValueError, zipfile.BadZipFile) as exc:
        raise _broken(path, exc) from exc
    return found


def array(path: Path, name: str, device: torch.device) -> Tensor:
    """Return one array of an `.npz` file as float32 on a device.

    Raises:
        ConfigError: the file is missing or torn.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return torch.from_numpy(archive[name]).to(device, torch.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as exc:
        raise _broken(path, exc) from exc


def state(path: Path) -> dict[str, Any]:
    """Return the state dictionary of a torch file; its tensors stay in the file until used.

    Raises:
        ConfigError: the file is missing, torn, or needs code to be read.
    """
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # a file of the format before zip archives cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as exc:
        raise _broken(path, str(exc) or "the file ends early") from exc
    if not isinstance(found, dict):
        raise _broken(path, f"it holds a {type(found).__name__}, no state dictionary")
    return found


def pick(
    path: Path, found: dict[str, Any], names: tuple[str, ...], *, optional: tuple[str, ...] = ()
) -> None:
    """Refuse a file that lacks a tensor, or holds one that nothing here knows.

    Raises:
        ConfigError: lists what was found and what was expected.
    """
    missing = [name for name in names if name not in found]
    surplus = [name for name in found if name not in names and name not in optional]
    if missing or surplus:
        known = ", ".join(names) + (f" (and perhaps {', '.join(optional)})" if optional else "")
        raise ConfigError(f"coder {_name(path)}: holds {sorted(found)}, expected {known}")


def _broken(path: Path, reason: object) -> ConfigError:
    line = (str(reason).strip().splitlines() or ["unknown reason"])[0]
    return ConfigError(f"coder {path.parent.name}: cannot read {path.name}: {line}")


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
