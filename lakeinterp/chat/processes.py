"""Which process set something aside, and whether it is still there."""

from __future__ import annotations

import os
from pathlib import Path


def name_of(pid: int) -> str:
    """Return a process's number and, where /proc tells it, its start: numbers are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return str(pid)
    return f"{pid}@{stat.rpartition(')')[2].split()[19]}"


def is_alive(name: str) -> bool:
    """Return whether the process of a name still runs on this machine."""
    pid = int(name.partition("@")[0])
    if os.name == "nt":  # there, signal 0 is no question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return name == name_of(pid)
