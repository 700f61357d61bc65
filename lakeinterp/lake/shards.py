"""Shards of a capture in the log: what is left of one, committed exactly once, never too late.

Each commit of a shard carries the epoch of its capture, a number that `forget` raises. Delta
refuses two commits at one time that carry the same application id, so a worker that began before
its capture was forgotten cannot commit after. The epoch is kept under several ids, its lanes, so
that workers seldom get into each other's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lakeinterp.errors import LakeError
from lakeinterp.lake import commits
from lakeinterp.lake.units import shard_app

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakeinterp.lake.store import Written
    from lakeinterp.lake.tables import Lake

_LANES = 16
_TABLE = "activations"
WHOLE = (1, 1)
"""The part that is everything."""


class Shards(NamedTuple):
    """The shards of one capture."""

    capture: str
    n_sequences: int
    """Sequences asked for; the corpus may end before."""
    size: int
    """Sequences in a full shard."""

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """Yield (shard, first sequence, one past the last)."""
        for shard, first in enumerate(range(0, self.n_sequences, self.size)):
            yield shard, first, min(first + self.size, self.n_sequences)

    def left(self, lake: Lake, part: tuple[int, int] = WHOLE) -> list[Todo]:
        """Return the shards of a part that are not committed in full, in order.

        Args:
            lake: The lake.
            part: (i, n): every n-th shard, from the i-th on, counted from 1.
        """
        delta = lake.table(_TABLE)
        found = []
        for shard, first, stop in self.ranges():
            if shard % part[1] != part[0] - 1:
                continue
            app = shard_app(self.capture, shard)
            done = 0 if delta is None else int(delta.transaction_version(app) or 0)
            if first + done < stop:
                found.append(Todo(shard, first + done, stop, done))
        return found

    def count(self, part: tuple[int, int] = WHOLE) -> int:
        """Return how many shards a part has."""
        return sum(1 for shard, *_ in self.ranges() if shard % part[1] == part[0] - 1)


class Todo(NamedTuple):
    """A shard, or what is left of one."""

    shard: int
    first: int
    """Sequence to go on with."""
    stop: int
    done: int
    """Sequences of the shard that are committed."""


def epoch(lake: Lake, capture: str) -> int:
    """Return how often a capture of this name was forgotten; what `publish` wants to be told."""
    return lake.committed(_TABLE, _lane(capture, 0))


def publish(
    lake: Lake,
    files: Sequence[Written],
    todo: Todo,
    n: int,
    *,
    capture: str,
    epoch: int,
    dropped: Mapping[str, int] | None = None,
) -> bool:
    """Commit the rows of `n` sequences of a shard, all hookpoints at once, exactly once.

    Args:
        lake: The lake.
        files: Written in full.
        todo: The shard.
        n: Sequences from `todo.first` on that the rows are of.
        capture: Its capture.
        epoch: Of the capture, from before its row was read or written.
        dropped: Activations left out because they are no finite numbers, by hookpoint.

    Returns:
        Whether this call made the commit; False if another process did.

    Raises:
        LakeError: the capture was forgotten meanwhile.
        Conflict: other writers won every retry.
    """
    app, lane = shard_app(capture, todo.shard), _lane(capture, todo.shard)

    def attempt() -> bool:
        delta = lake.create(_TABLE)
        if int(delta.transaction_version(lane) or 0) != epoch:
            raise LakeError(
                f"capture {capture}: it was forgotten while it ran, and nothing was written since; "
                "run the same command again to capture it anew"
            )
        if int(delta.transaction_version(app) or 0) != todo.done:
            return False
        apps = {app: todo.done + n, lane: epoch}
        for hookpoint, count in (dropped or {}).items():
            name = _dropped(capture, hookpoint, todo.shard)
            apps[name] = int(delta.transaction_version(name) or 0) + count
        commits.commit(delta, _TABLE, [commits.added(file) for file in files], apps)
        return True

    return commits.retried(_TABLE, attempt)


def close(lake: Lake, capture: str) -> None:
    """Raise the epoch: what runs now can commit no further shard of this capture."""

    def attempt() -> None:
        delta = lake.create(_TABLE)
        following = int(delta.transaction_version(_lane(capture, 0)) or 0) + 1
        lanes = {_lane(capture, shard): following for shard in range(_LANES)}
        commits.commit(delta, _TABLE, [], lanes)

    commits.retried(_TABLE, attempt)


def is_epoch(app: str) -> bool:
    """Whether an application id holds an epoch, which outlives its capture."""
    return app.startswith("epoch/")


def dropped(lake: Lake, capture: str, hookpoints: Sequence[str]) -> dict[str, int]:
    """Return how many activations of each hookpoint were left out as no finite numbers."""
    delta = lake.table(_TABLE)
    found = dict.fromkeys(hookpoints, 0)
    if delta is None:
        return found
    for app in commits.app_ids(lake.store, _TABLE):
        name, _, shard = app.rpartition("/")
        hookpoint = name.removeprefix(f"nonfinite/{capture}/")
        if shard.isdigit() and name != hookpoint and hookpoint in found:
            found[hookpoint] += int(delta.transaction_version(app) or 0)
    return found


def _dropped(capture: str, hookpoint: str, shard: int) -> str:
    return f"nonfinite/{capture}/{hookpoint}/{shard:06d}"


def _lane(capture: str, shard: int) -> str:
    return f"epoch/{capture}/{shard % _LANES:02d}"
