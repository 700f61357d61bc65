"""Where the files of a delphi cache are and what their headers say; nothing is read but headers.

A split holds `locations` [rows, 3] (sequence, position, latent - first latent of the split),
`activations` [rows] and perhaps `tokens` [sequences, context], of integers and floats of any
width. Caches of earlier versions hold no tokens, name hookpoints with a leading dot and write
`ctx_len` for `cache_ctx_len`. A file named after its hookpoint holds all its latents.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakeinterp.bridges import tensors
from lakeinterp.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from lakeinterp.bridges.base import Import
    from lakeinterp.bridges.tensors import Stored

VALUES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float32"}
"""Types of activations, and what they are in the lake."""
_SPLIT = re.compile(r"(\d+)_(\d+)")
_LENGTHS = ("cache_ctx_len", "ctx_len")


@dataclass(frozen=True, slots=True)
class Split:
    """One file: a range of latents."""

    path: Path
    first: int
    stop: int
    """Latent after its last one."""
    locations: Stored
    activations: Stored
    tokens: Stored | None

    @property
    def place(self) -> Path:
        """The folder of the hookpoint's splits, or the file if it is the only one."""
        return self.path.parent if _SPLIT.fullmatch(self.path.stem) else self.path

    @property
    def n_rows(self) -> int:
        """Activations in the file."""
        return self.activations.shape[0]


@dataclass(frozen=True, slots=True)
class Hookpoint:
    """The splits of one hookpoint."""

    name: str
    folder: Path
    splits: tuple[Split, ...]
    """By their latents, which they cover from 0 on without a hole."""

    @property
    def n_latents(self) -> int:
        """Width of the coder."""
        return self.splits[-1].stop

    @property
    def n_rows(self) -> int:
        """Activations of the hookpoint."""
        return sum(split.n_rows for split in self.splits)


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder's hookpoints, all on the same tokens."""

    hookpoints: tuple[Hookpoint, ...]
    config: dict[str, Any]
    """`config.json` of the first hookpoint; empty if there is none."""
    run: dict[str, Any]
    """`run_config.json` of the run; empty if there is none."""
    holder: Split | None
    """The first split that holds the tokens, None if none does."""

    @property
    def context_tokens(self) -> int:
        """Tokens of one sequence.

        Raises:
            ConfigError: neither tokens nor a configuration says it.
        """
        if self.holder and self.holder.tokens:
            return self.holder.tokens.shape[1]
        for name in _LENGTHS:
            if name in self.config:
                return int(self.config[name])
        raise ConfigError(
            f"delphi cache: {self.hookpoints[0].folder} holds neither tokens nor a config.json "
            f"with {' or '.join(_LENGTHS)}"
        )

    @property
    def value_dtype(self) -> str:
        """Precision of the activations, float32 where files differ."""
        kinds = {VALUES[s.activations.dtype] for h in self.hookpoints for s in h.splits}
        return kinds.pop() if len(kinds) == 1 else "float32"


def find(options: Import) -> Cache:
    """Find a cache in a folder: a run's, its `latents`, or one hookpoint's.

    Raises:
        NotFound: there is no such folder, or it holds no such hookpoint.
        ConfigError: it is no cache, a file is torn, tensors do not fit, or splits are missing.
    """
    root = options.path
    if not root.is_dir():
        raise NotFound("folder", str(root), hint="there is no such folder")
    root = root.resolve()
    start = root / "latents" if (root / "latents").is_dir() else root
    found = {**_unsplit(start, options), **_split(start)}
    if not found:
        raise ConfigError(
            f"delphi cache: {root} holds none; expected latents/HOOKPOINT/FIRST_LAST.safetensors "
            "with locations and activations in it"
        )
    for name in options.hookpoints:
        if name not in found:
            raise NotFound("hookpoint", name, found, hint=f"in {root}")
    hookpoints = [_hookpoint(n, found[n]) for n in sorted(options.hookpoints or found)]
    holders = (s for h in hookpoints for s in h.splits if s.tokens)
    folder = hookpoints[0].folder
    around = (p / "run_config.json" for p in (folder, *folder.parents[:3]))
    run = next((path for path in around if path.is_file()), None)
    return Cache(
        tuple(hookpoints), _json(folder / "config.json"),
        _json(run) if run else {}, next(holders, None),
    )  # fmt: skip


def _split(start: Path) -> dict[str, list[Split]]:
    """Return the splits by hookpoint: the path of their folder."""
    found: dict[str, list[Split]] = {}
    for path in sorted(start.rglob("*.safetensors")):
        match = _SPLIT.fullmatch(path.stem)
        if match is None:
            continue
        inner = path.parent.relative_to(start).as_posix()
        name = (path.parent.name if inner == "." else inner).lstrip(".")
        found.setdefault(name, []).append(_read(path, int(match[1]), int(match[2]) + 1))
    return found


def _unsplit(start: Path, options: Import) -> dict[str, list[Split]]:
    """Return files that hold a whole hookpoint and are named after it."""
    found = {}
    for path in sorted(start.glob("*.safetensors")):
        if _SPLIT.fullmatch(path.stem) or "locations" not in tensors.read(path):
            continue
        if options.n_latents is None:
            raise ConfigError(
                f"delphi cache: {path.name} does not say how many latents the coder has: give "
                "--n-latents"
            )
        found[path.stem.lstrip(".")] = [_read(path, 0, options.n_latents)]
    return found


def _hookpoint(name: str, splits: list[Split]) -> Hookpoint:
    """Return a hookpoint whose splits follow each other from latent 0 on."""
    ordered = sorted(splits, key=lambda split: split.first)
    expected = 0
    for split in ordered:
        if split.first != expected or split.stop <= split.first:
            raise ConfigError(
                f"delphi cache: {name}: expected a split that begins with latent {expected}, "
                f"found {split.path.name}; splits are missing or overlap"
            )
        expected = split.stop
    return Hookpoint(name, ordered[0].path.parent, tuple(ordered))


def _read(path: Path, first: int, stop: int) -> Split:
    """Return one file after a look at its header."""
    held = tensors.read(path)
    missing = [name for name in ("locations", "activations") if name not in held]
    if missing:
        raise ConfigError(
            f"delphi cache: {path} holds {sorted(held)}, but no {' and no '.join(missing)}"
        )
    locations, activations, tokens = (
        held["locations"], held["activations"], held.get("tokens"),
    )  # fmt: skip
    n_rows = activations.shape[0] if len(activations.shape) == 1 else -1
    if locations.shape != (n_rows, 3):
        raise ConfigError(
            f"delphi cache: {path} does not fit: locations are {list(locations.shape)}, "
            f"activations {list(activations.shape)}; expected [rows, 3] and [rows]"
        )
    if activations.dtype not in VALUES or locations.array.dtype.kind not in "iu":
        raise ConfigError(
            f"delphi cache: {path} holds activations of {activations.dtype} at locations of "
            f"{locations.dtype}; expected floats and integers"
        )
    if tokens and (len(tokens.shape) != 2 or tokens.array.dtype.kind not in "iu"):
        raise ConfigError(
            f"delphi cache: {path} holds tokens of {tokens.dtype} of shape {list(tokens.shape)}; "
            "expected integers [sequences, context]"
        )
    return Split(path, first, stop, locations, activations, tokens)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"delphi cache: {path} cannot be read: {exc}") from exc
    if not isinstance(found, dict):
        raise ConfigError(f"delphi cache: {path} holds no JSON object")
    return found
