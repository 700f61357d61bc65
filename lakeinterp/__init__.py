"""lakeinterp: what each latent of a sparse coder means, and how far that answer can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.config import Config
    from lakeinterp.errors import LakeinterpError
    from lakeinterp.lake import Lake
    from lakeinterp.opened import OpenedLake

__version__ = "0.1.0"
__all__ = ["Config", "Lake", "LakeinterpError", "__version__", "open"]

_LAZY = {
    "Config": "lakeinterp.config",
    "Lake": "lakeinterp.lake",
    "LakeinterpError": "lakeinterp.errors",
}


def open(path: str, *, storage_options: Mapping[str, str] | None = None) -> OpenedLake:
    """Open a lake for reading and writing; `path` is a folder or an object-store URL.

    Raises:
        NotFound: there is no lake at this place.
    """
    from lakeinterp.errors import NotFound
    from lakeinterp.opened import OpenedLake

    lake = OpenedLake(path, storage_options=storage_options)
    if not lake.is_there():
        hint = (
            "no table is there; --lake or $LAKEINTERP_LAKE names another, "
            "`lakeinterp capture` makes one"
        )
        raise NotFound("lake", str(path), hint=hint)
    return lake


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
