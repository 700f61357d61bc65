"""One trial of `faults.py`: a lake of its own, what is run on it, and whether it ended right."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lakeinterp.lake import Lake
from tests.capture import children

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

ROWS = "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL"
N_SHARDS = 16
LIMIT_S = 120
"""For one command; what takes longer hangs."""


class Truth(NamedTuple):
    """An undisturbed run."""

    settings: dict[str, object]
    rows: list[tuple[object, ...]]
    sequences: list[dict[str, object]]
    seconds: float
    workers_s: float
    """Of two workers, with starting."""


class Wrong(Exception):
    """A trial that did not end as it must."""


class Trial:
    """One trial: a lake of its own, moments from its seed."""

    def __init__(self, truth: Truth, folder: Path, seed: int) -> None:
        self.truth, self.folder = truth, folder
        self.lake = folder / "lake"
        self.random = random.Random(seed)
        self._n_said = 0

    def start(self, command: str = "capture", **more: object) -> tuple[BaseProcess, Path]:
        """Start a command on the lake; return its process and where it prints to."""
        self._n_said += 1
        said = self.folder / f"said{self._n_said}"
        given = self.truth.settings if command == "capture" else {}
        settings = given | {f"capture.{key}": value for key, value in more.items()}
        return children.start(command, settings, self.lake, said), said

    def wait(self, seconds: float) -> None:
        """Wait for a random part of some seconds."""
        time.sleep(self.random.uniform(0, seconds))

    def wait_in(self, process: BaseProcess, seconds: float) -> None:
        """Wait for a random moment of a capture: one time in four at any, else between commits."""
        if self.random.random() < 0.25:
            return self.wait(seconds)
        n_commits = commits(self.lake) + self.random.randrange(1, N_SHARDS)
        deadline = time.monotonic() + 60
        while process.is_alive() and commits(self.lake) < n_commits:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.002)
        return self.wait(0.1)

    def finish(self, started: tuple[BaseProcess, Path], *, may_fail: bool = False) -> str:
        """Wait for a command; return the line it failed with, or nothing."""
        started[0].join(LIMIT_S)
        if (code := started[0].exitcode) is None:
            kill(started[0])
            raise Wrong("it hangs")
        lines = started[1].read_text().splitlines()
        if code == 0:
            return ""
        if not may_fail or len(lines) != 1 or not lines[0].startswith("error: "):
            raise Wrong(f"exit code {code}: {' | '.join(lines[-3:])}")
        return lines[0]

    def again(self) -> None:
        """Run the command, with nothing in its way, and check the lake."""
        self.finish(self.start())
        self.check()

    def rows(self) -> list[tuple[object, ...]]:
        """Return what the lake holds now; all of it must be right."""
        found = Lake(str(self.lake)).sql(ROWS).fetchall()
        if not set(found) <= set(self.truth.rows) or len(set(found)) != len(found):
            raise Wrong("rows that an undisturbed run does not have")
        return found

    def check(self) -> None:
        """Compare the lake with that of an undisturbed run."""
        if self.rows() != self.truth.rows:
            raise Wrong("rows are missing")
        if Lake(str(self.lake)).rows("sequences") != self.truth.sequences:
            raise Wrong("other sequences")


def commits(lake: Path) -> int:
    """Return how many commits the table of activations has."""
    return len(list((lake / "activations" / "_delta_log").glob("*.json")))


def kill(process: BaseProcess) -> None:
    """Kill at once."""
    process.kill()
    process.join()


def workers_of(pid: int) -> list[int]:
    """Return the processes that a capture started for its devices."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children_ = [child for task in tasks for child in (task / "children").read_text().split()]
        named = [(int(c), Path(f"/proc/{c}/cmdline").read_bytes()) for c in children_]
    except OSError:
        return []  # it ended meanwhile
    return [child for child, name in named if b"capture.worker" in name]
