"""The lake of a configuration, opened once for all that follows in a process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from lakeinterp.lake.tables import Lake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakeinterp.config import Config

_OPEN: WeakValueDictionary[tuple[object, ...], Lake] = WeakValueDictionary()
_LOCK = threading.Lock()


def open_lake(config: Config) -> Lake:
    """Return the lake of a configuration, which need not exist yet.

    As long as somebody in this process holds it, others get the same: its logs are read once.
    """
    options = config.store_options()
    address = config.lake, tuple(sorted((options or {}).items()))
    with _LOCK:
        if (lake := _OPEN.get(address)) is None:
            lake = _OPEN[address] = Lake(config.lake, storage_options=options)
    return lake


@contextmanager
def kept(config: Config) -> Iterator[Lake]:
    """Hold the lake in a block, so that pieces of work one after the other find it open."""
    lake = open_lake(config)
    yield lake
