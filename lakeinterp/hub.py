"""What is a folder here and what is an id of the hub, and how a hub that fails is told."""

from __future__ import annotations

import sys
from pathlib import Path

from lakeinterp.errors import NotFound


def refuse_missing_path(kind: str, name: str) -> None:
    """Refuse a name that can only be a path and leads nowhere, before the hub is asked for it.

    Raises:
        NotFound: there is no such file or folder.
    """
    can_be_id = not name.startswith((".", "/", "~")) and name.count("/") <= 1
    if not can_be_id and not Path(name).expanduser().exists():
        raise NotFound(kind, name, hint="there is no such file or folder")


def failures() -> tuple[type[Exception], ...]:
    """Return what looking for an id on the hub raises; call it when the hub's client is loaded."""
    kinds: list[type[Exception]] = [OSError, ValueError]
    if "httpx" in sys.modules:
        kinds.append(sys.modules["httpx"].HTTPError)
    return tuple(kinds)


def not_found(kind: str, name: str, exc: BaseException) -> NotFound:
    """Return the error for a name that is no folder here and that the hub does not give."""
    line = str(exc).strip().split("\n", 1)[0] or type(exc).__name__
    return NotFound(kind, name, hint=f"no such folder here, and the hub says: {line}")
