"""Runs a program and ends it, with all that it started, when nobody wants it any more.

A process between lakeinterp and a server, started by path in Python's isolated mode, so it imports
the standard library alone. Its standard input is a pipe from lakeinterp: when that ends, because
the server shall stop or because lakeinterp was killed in any way, the server's whole process
group is asked to end, and killed if it does not.

    python -I keeper.py GRACE_SECONDS LOG COMMAND...
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_GONE_S = 2.0
"""Longest wait for killed processes to be gone: some systems leave the last one in the table."""


def main(arguments: Sequence[str]) -> int:
    """Run the command until it ends or is not wanted; return its exit code.

    Args:
        arguments: Seconds between asking and killing, the file its output is added to, the command.
    """
    grace_s, log, *command = arguments
    with open(log, "ab") as out:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    threading.Thread(target=_end_after_input, args=(child, float(grace_s)), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: _signal(child, signal.SIGTERM))
    code = child.wait()
    _kill_rest(child)
    return code if code >= 0 else 128 - code


def _end_after_input(child: subprocess.Popen[bytes], grace_s: float) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    _signal(child, signal.SIGTERM)
    time.sleep(grace_s)  # the main thread ends this process when the child ends sooner
    _signal(child, signal.SIGKILL)


def _kill_rest(child: subprocess.Popen[bytes]) -> None:
    """Kill what the child left behind, and wait a little until it is gone: that takes a moment."""
    until = time.monotonic() + _GONE_S
    while _signal(child, signal.SIGKILL) and time.monotonic() < until:
        time.sleep(0.01)


def _signal(child: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the child's group; return whether there is one."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says this of a group whose last process is gone
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
