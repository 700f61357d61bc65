"""Who a local file or folder is, wherever it lies: names, sizes, and the ends of each file."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

_END = 2**20


def fingerprint(path: str | Path) -> str:
    """Return a digest of a file or folder that does not depend on where it is.

    Each file counts with its relative name, its size and its first and last MiB; files that
    only differ in between are taken for equal.
    """
    root = Path(path)
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    total = blake2b(digest_size=8)
    for file in files:
        size = file.stat().st_size
        name = file.name if file == root else file.relative_to(root).as_posix()
        total.update(f"{name}\0{size}\0".encode())
        with file.open("rb") as source:
            total.update(source.read(_END))
            if size > 2 * _END:
                source.seek(-_END, 2)
            total.update(source.read(_END))
    return total.hexdigest()


def identity(name: str, revision: str | None = None) -> str:
    """Return what tells a model from another one: its files if it is a folder here, else its id.

    Args:
        name: Folder or hub id.
        revision: Of a hub model.
    """
    path = Path(name).expanduser()
    return fingerprint(path) if path.is_dir() else f"{name}@{revision}"
