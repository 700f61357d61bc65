"""Coder folders and hub ids: which hookpoints they hold, and only their needed files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakeinterp.coders import sparsify
from lakeinterp.errors import ConfigError, MissingExtra, NotFound
from lakeinterp.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.coders.base import CoderSpec, SparseCoder


@dataclass(frozen=True, slots=True)
class CoderFolder:
    """The coders of one folder that a capture uses."""

    name: str
    """Folder name or hub id."""
    revision: str
    """Commit of the hub, or a fingerprint of the local files."""
    specs: tuple[CoderSpec, ...]
    """One a hookpoint, sorted by hookpoint."""
    folders: dict[str, Path]
    """Where each hookpoint's files are."""

    def load(self, spec: CoderSpec, device: str, chunk_bytes: int) -> SparseCoder:
        """Load a coder's weights onto a device.

        Args:
            spec: One of `specs`.
            device: For example `cpu` or `cuda:0`.
            chunk_bytes: Ceiling for the pre-activations that exist at one time.
        """
        import torch

        folder = self.folders[spec.hookpoint]
        return sparsify.SparsifyCoder(folder, spec, torch.device(device), chunk_bytes)


def find(coder: str, hookpoints: Sequence[str] = (), revision: str | None = None) -> CoderFolder:
    """Find the coders of a local folder or a hub id.

    Args:
        coder: Folder with one sub-folder a hookpoint, or such a repository's id.
        hookpoints: The wanted ones; a leading `model.` may be there or not. Empty takes all.
        revision: Of a hub repository.

    Raises:
        ConfigError: nothing is given, or the folder holds no coder that is known.
        NotFound: a hookpoint is not among those found, or the hub has no such repository.
    """
    if not coder:
        raise ConfigError("capture.coder: give a folder or hub id of sparse coders")
    root = Path(coder).expanduser()
    if root.is_dir():
        names = _choose(_local_hookpoints(root), hookpoints, coder)
        folders = {name: _folder(root, name) for name in names}
        return _found(root.resolve().name, folders, None)
    if coder.startswith((".", "/", "~")):
        raise NotFound("coder folder", coder, hint="there is no such folder")
    return _from_hub(coder, hookpoints, revision)


def _found(name: str, folders: dict[str, Path], revision: str | None) -> CoderFolder:
    specs = tuple(sparsify.read_spec(folder, hookpoint) for hookpoint, folder in folders.items())
    prints = [fingerprint(folder) for folder in folders.values()] if revision is None else []
    return CoderFolder(name, revision or "-".join(prints)[:64], specs, folders)


def _local_hookpoints(root: Path) -> list[str]:
    found = sorted(
        path.parent.relative_to(root).as_posix()
        for path in root.rglob(sparsify.CONFIG)
        if (path.parent / sparsify.WEIGHTS).is_file()
    )
    if not found:
        inside = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        raise ConfigError(
            f"capture.coder: {root} holds no sparse coder that lakeinterp knows; found {inside}, "
            f"expected <hookpoint>/{sparsify.CONFIG} and <hookpoint>/{sparsify.WEIGHTS}"
        )
    return [root.name if name == "." else name for name in found]


def _folder(root: Path, hookpoint: str) -> Path:
    below = root / hookpoint
    return below if below.is_dir() else root


def _choose(found: list[str], wanted: Sequence[str], coder: str) -> list[str]:
    """Return the wanted among the found hookpoints, whichever of them says `model.` in front."""
    if not wanted:
        return sorted(found)
    plain = {name.removeprefix("model."): name for name in found}
    chosen = set()
    for name in wanted:
        if name.removeprefix("model.") not in plain:
            raise NotFound("hookpoint", name, found, hint=f"in {coder}")
        chosen.add(plain[name.removeprefix("model.")])
    return sorted(chosen)


def _from_hub(coder: str, hookpoints: Sequence[str], revision: str | None) -> CoderFolder:
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as exc:
        raise MissingExtra("loading a coder of the hub", "capture", "huggingface_hub") from exc
    try:
        info = HfApi().model_info(coder, revision=revision)
        files = [f.rfilename for f in info.siblings or ()]
        tail = f"/{sparsify.WEIGHTS}"
        names = _choose(
            [f.removesuffix(tail) for f in files if f.endswith(tail)], hookpoints, coder
        )
        wanted = [f"{n}/{f}" for n in names for f in (sparsify.CONFIG, sparsify.WEIGHTS)]
        root = Path(snapshot_download(coder, revision=info.sha, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as exc:
        line = str(exc).strip().splitlines()[0]
        raise NotFound(
            "coder", coder, hint=f"no such folder here, and the hub says: {line}"
        ) from exc
    if not names:
        raise ConfigError(f"capture.coder: {coder} holds no <hookpoint>/{sparsify.WEIGHTS}")
    return _found(coder, {name: root / name for name in names}, info.sha)
