"""What is a folder here and what is an id of the hub, and how a hub that fails is told."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lakeinterp.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 10.0
"""Longest wait for the hub to say whether it knows an id."""


def require(kind: Literal["model", "dataset"], name: str) -> None:
    """Refuse a name that leads nowhere, before a client looks for it file by file.

    A path must be there. An id is asked for once; clients ask again and again where there is no
    network, for most of a minute. What lies in the hub's cache is left to them, and so is every
    answer but that there is no such id.

    Args:
        kind: What the name should be.
        name: Folder or hub id.

    Raises:
        NotFound: there is no such file or folder, or the hub does not know the id or is out of
            reach.
    """
    if Path(name).expanduser().exists():
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise NotFound(kind, name, hint="there is no such file or folder")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.constants import HF_HUB_CACHE, is_offline_mode
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    except ImportError:
        return
    kept = Path(HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"
    if is_offline_mode() or kept.is_dir():
        return
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=TIMEOUT_S)
    except RepositoryNotFoundError as exc:
        raise not_found(kind, name, exc) from exc
    except HfHubHTTPError:
        return
    except failures() as exc:
        raise not_found(kind, name, exc) from exc


def failures() -> tuple[type[Exception], ...]:
    """Return what looking for an id on the hub raises; call it when the hub's client is loaded."""
    kinds: list[type[Exception]] = [OSError, ValueError]
    if "httpx" in sys.modules:
        kinds.append(sys.modules["httpx"].HTTPError)
    return tuple(kinds)


def not_found(kind: str, name: str, exc: BaseException) -> NotFound:
    """Return the error for a name that is no folder here and that the hub does not give."""
    line = str(exc).strip().split("\n", 1)[0] or type(exc).__name__
    if "httpx" in sys.modules and isinstance(exc, sys.modules["httpx"].TransportError):
        return NotFound(kind, name, hint=f"no such folder here, and the hub is not there: {line}")
    return NotFound(kind, name, hint=f"no such folder here, and the hub says: {line}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing bars and warnings while a model is loaded."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
