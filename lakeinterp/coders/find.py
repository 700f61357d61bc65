"""Coder folders and hub ids: which hookpoints they hold, in which format, and only their files.

A coder's format is found from the names of its files, and from their keys where names do not
decide. Nothing is concluded from a piece of a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lakeinterp import hub
from lakeinterp.coders import formats
from lakeinterp.coders.base import CoderFiles
from lakeinterp.coders.formats import gemma_scope
from lakeinterp.errors import ConfigError, MissingExtra, NotFound
from lakeinterp.fingerprint import fingerprint
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    files: Mapping[str, CoderFiles]
    """Where each hookpoint's files are; empty for coders that are no files."""

    def load(self, spec: CoderSpec, device: str, chunk_bytes: int) -> SparseCoder:
        """Load a coder's weights onto a device.

        Args:
            spec: One of `specs`.
            device: For example `cpu` or `cuda:0`.
            chunk_bytes: Ceiling for the pre-activations that exist at one time.

        Raises:
            ConfigError: the weights are torn, or lack what the format needs.
        """
        import torch

        if spec.format == "neurons":
            from lakeinterp.coders.formats.neurons import NeuronCoder

            return NeuronCoder(spec, chunk_bytes)
        files = self.files[spec.hookpoint]
        return formats.get(spec.format).load(files, spec, torch.device(device), chunk_bytes)


class Unit(NamedTuple):
    """A coder that a list of files may hold, judged by names."""

    hookpoint: str
    """Path of its folder, or of its file without the ending; empty for the root itself."""
    format: str
    path: str
    """Its folder or file."""
    files: tuple[str, ...]
    """What has to be there to read it, and what is there besides."""


def find(
    coder: str,
    hookpoints: Sequence[str] = (),
    revision: str | None = None,
    *,
    format: str | None = None,
    reads: str | None = None,
) -> CoderFolder:
    """Find the coders of a local folder or a hub id.

    Args:
        coder: Folder or repository that is a coder or holds coders at any depth.
        hookpoints: The wanted ones; a leading `model.` may be there or not, and a Gemma Scope
            name may end in `canonical`. Empty takes all.
        revision: Of a hub repository.
        format: Take this format rather than the one found.
        reads: Where the coders read, for formats that do not say so.

    Raises:
        ConfigError: nothing is given, or the folder holds no coder that is known.
        NotFound: a hookpoint is not among those found, or the hub has no such repository.
    """
    if not coder:
        raise ConfigError("capture.coder: give a folder or hub id of sparse coders")
    root = Path(coder).expanduser()
    if root.is_file():
        names, root, origin = [root.name], root.parent, root.parent.resolve().as_posix()
    elif root.is_dir():
        names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        origin = root.resolve().as_posix()
    elif coder.startswith((".", "/", "~")):
        raise NotFound("coder folder", coder, hint="there is no such folder")
    else:
        return _from_hub(coder, hookpoints, revision, format, reads)
    chosen = _wanted(units(names, format), hookpoints, coder, names)
    return _found(chosen, root, origin, reads, Path(origin).name, None)


def units(names: Iterable[str], wanted: str | None = None) -> list[Unit]:
    """Return the coders that files of these names may be, sorted; one file may be in several.

    Args:
        names: Paths relative to the root, with `/`.
        wanted: Only of this format.
    """
    there = set(names)
    found: list[Unit] = []
    exact = {layout[0].rpartition("/")[2] for n in formats.FORMATS for layout in _layouts(n)}
    for name in [wanted] if wanted else formats.FORMATS:
        optional = formats.get(name).OPTIONAL
        for layout in _layouts(name):
            seen = (_unit(name, layout, optional, path, there, exact) for path in there)
            found.extend(unit for unit in seen if unit)
    return sorted(found)


def sure(found: list[Unit]) -> list[Unit]:
    """Return the coders that are folders, or those that are files where there is no folder.

    Any `.pt` file may be a coder; nobody wants a repository's checkpoints fetched to find out.
    """
    return [unit for unit in found if unit.files != (unit.path,)] or found


def _layouts(name: str) -> tuple[tuple[str, ...], ...]:
    return formats.get(name).LAYOUTS


def _unit(
    name: str, layout: tuple[str, ...], optional: tuple[str, ...], path: str, there: set[str],
    exact: set[str],
) -> Unit | None:  # fmt: skip
    """Return the coder whose weights are at a path, or None if they are of another name."""
    weights = layout[0]
    if "*" in weights:
        file = path.rpartition("/")[2]
        if not fnmatchcase(file, weights) or file in exact:
            return None
        beside = (path.removesuffix(file) + other for other in optional)
        needed = (path, *(other for other in beside if other in there))
        return Unit(path.removesuffix(Path(path).suffix), name, path, needed)
    if path != weights and not path.endswith(f"/{weights}"):
        return None
    folder = path.removesuffix(weights).rstrip("/")
    files = {file: f"{folder}/{file}".lstrip("/") for file in (*layout, *optional)}
    if any(files[file] not in there for file in layout):
        return None
    return Unit(folder, name, folder, tuple(f for f in files.values() if f in there))


def _wanted(
    found: list[Unit], wanted: Sequence[str], coder: str, names: Iterable[str]
) -> list[Unit]:
    """Return the units of the wanted hookpoints, whichever of them says `model.` in front."""
    if not found:
        raise _unknown(coder, names)
    if not wanted:
        return found
    here = Path(coder).expanduser().resolve().name
    plain = {(unit.hookpoint or here).removeprefix("model."): unit.hookpoint for unit in found}
    chosen = set()
    for name in wanted:
        known = gemma_scope.canonical(plain, name) or name.removeprefix("model.").strip("/")
        if known not in plain:
            raise NotFound("hookpoint", name, plain, hint=f"in {coder}")
        chosen.add(plain[known])
    return [unit for unit in found if unit.hookpoint in chosen]


def _found(
    chosen: list[Unit], root: Path, origin: str, reads: str | None, name: str, revision: str | None
) -> CoderFolder:
    """Return the coders whose files are there, each claimed by exactly one format."""
    files: dict[str, CoderFiles] = {}
    claimed: dict[str, list[str]] = {}
    for unit in chosen:
        hookpoint = unit.hookpoint or root.resolve().name
        candidate = CoderFiles(
            hookpoint=hookpoint, path=root / unit.path, origin=f"{origin}/{unit.hookpoint}",
            reads=reads,
        )  # fmt: skip
        if formats.get(unit.format).claims(candidate):
            files[hookpoint] = candidate
            claimed.setdefault(hookpoint, []).append(unit.format)
    if not claimed:
        raise _unknown(name, [file for unit in chosen for file in unit.files])
    _refuse_two(claimed)
    specs = tuple(formats.get(claimed[h][0]).read_spec(files[h]) for h in sorted(files))
    if revision is None:
        revision = digest([fingerprint(files[h].path) for h in sorted(files)])
    return CoderFolder(name, revision, specs, files)


def _refuse_two(claimed: dict[str, list[str]]) -> None:
    for hookpoint, several in claimed.items():
        if len(several) > 1:
            raise ConfigError(
                f"coder {hookpoint}: its files are those of {' and of '.join(sorted(several))}; "
                "set capture.format"
            )


def _unknown(coder: str, names: Iterable[str]) -> ConfigError:
    inside = sorted(names)
    shown = ", ".join(inside[:8]) + (", …" if len(inside) > 8 else "")
    return ConfigError(
        f"capture.coder: {coder} holds no sparse coder that lakeinterp knows; found "
        f"{shown or 'nothing'}; known: {formats.described()}"
    )


def _from_hub(
    coder: str, hookpoints: Sequence[str], revision: str | None, format: str | None,
    reads: str | None,
) -> CoderFolder:  # fmt: skip
    try:
        from huggingface_hub import snapshot_download
    except ImportError as exc:
        raise MissingExtra("loading a coder of the hub", "capture", "huggingface_hub") from exc
    try:
        names, commit, kept = _on_hub(coder, revision)
        found = units(names, format)
        chosen = _wanted(found if hookpoints else sure(found), hookpoints, coder, names)
        needed = sorted({file for unit in chosen for file in unit.files})
        root = kept or Path(snapshot_download(coder, revision=commit, allow_patterns=needed))
    except hub.failures() as exc:
        raise hub.not_found("coder", coder, exc) from exc
    return _found(chosen, root, coder, reads, coder, commit)


def _on_hub(coder: str, revision: str | None) -> tuple[list[str], str, Path | None]:
    """Return the files of a repository, its commit, and its folder if the hub is out of reach.

    Then only what was fetched before is there, and counts as all there is.
    """
    from httpx import TransportError
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(coder, revision=revision, timeout=hub.TIMEOUT_S)
    except (TransportError, OfflineModeIsEnabled) as unreachable:
        try:
            root = Path(snapshot_download(coder, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise unreachable from None
        names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        return names, root.name, root
    return [file.rfilename for file in info.siblings or ()], str(info.sha), None
