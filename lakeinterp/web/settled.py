"""A file system of a served lake in an object store that asks about a data file only once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_KEPT = 100_000
"""Files whose size and age are remembered."""
_TOLD = ("info", "modified", "size")


def settled(shared: Any) -> Any:
    """Return a file system of fsspec like this one that remembers what it is told of Parquet files.

    A lake's data files are never changed, only added and removed; and DuckDB asks for size and age
    of every file at every statement, which made some 200 requests of one page. A file that is
    removed meanwhile is missed when it is read. fsspec hands the same object to everybody who asks
    for a store, so the one that remembers is another.
    """
    fs = type(shared)(*shared.storage_args, skip_instance_cache=True, **shared.storage_options)
    plain = {name: getattr(fs, name) for name in (*_TOLD, "exists", "glob")}

    def remembering(name: str) -> Any:
        known = lru_cache(maxsize=_KEPT)(plain[name])

        def told(path: str, *args: Any, **kwargs: Any) -> Any:
            if args or any(kwargs.values()) or not _is_data(path):
                return plain[name](path, *args, **kwargs)
            return known(fs._strip_protocol(path))

        return told

    def exists(path: str, *args: Any, **kwargs: Any) -> bool:
        if not _is_data(path):
            return bool(plain["exists"](path, *args, **kwargs))
        try:
            fs.info(path)
        except FileNotFoundError:
            return False
        return True

    def glob(path: str, *args: Any, **kwargs: Any) -> Any:
        if not _is_data(path):
            return plain["glob"](path, *args, **kwargs)
        return [fs._strip_protocol(path)] if exists(path) else []

    for name in _TOLD:
        setattr(fs, name, remembering(name))
    fs.exists, fs.glob = exists, glob
    return fs


def _is_data(path: object) -> bool:
    """Whether a path names one Parquet file."""
    return isinstance(path, str) and path.endswith(".parquet") and not set("*?[") & set(path)
