"""The latents of a hookpoint that the settings choose: found once for all of its units."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.errors import LakeError
from lakeinterp.lake import queries
from lakeinterp.lake.selection import chosen_latents
from lakeinterp.lake.units import hookpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.sampling.session import Session
    from lakeinterp.terms import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The latents of a hookpoint that the settings choose."""

    hookpoint: str
    version: int
    """Of the table `latents` by which they were chosen."""
    width: int
    """Latents in a bucket."""
    n_latents: int
    """Of the coder."""
    n_counted: dict[int, int]
    """Latents of each bucket that have statistics."""
    latents: Sequence[int]
    """Ascending."""

    def of(self, unit: Unit) -> list[int]:
        """Return the chosen latents of a unit."""
        first = unit.bucket * self.width
        low, high = (bisect_left(self.latents, edge) for edge in (first, first + self.width))
        return list(self.latents[low:high])

    def is_counted(self, unit: Unit) -> bool:
        """Return whether all latents of a unit have statistics."""
        n = min(self.width, self.n_latents - unit.bucket * self.width)
        return self.n_counted.get(unit.bucket, 0) == n


def choose(session: Session, unit: Unit) -> list[int]:
    """Return the latents of a unit that the settings choose, by the newest statistics.

    Raises:
        ConfigError: a listed latent is outside the coder's width, or `sampling.where` is not one
            condition on the columns of `latents`.
        LakeError: latents that the choice is among have no statistics.
    """
    version = session.lake.version("latents")
    with session.shared.choice_lock:
        held = session.shared.choice
        if held is None or (held.hookpoint, held.version) != (unit.hookpoint, version):
            held = session.shared.choice = _choice(session, unit.hookpoint, version)
    config = session.config
    is_counted = held.is_counted(unit)
    if config.max_latents is not None:
        is_counted = sum(held.n_counted.values()) == held.n_latents
    if not is_counted:
        raise LakeError(
            f"{unit}: the lake lacks statistics of its latents; "
            "run statistics_unit on every unit of the hookpoint first"
        )
    return held.of(unit)


def _choice(session: Session, hookpoint: str, version: int) -> Choice:
    key = {"capture": session.capture, "hookpoint": hookpoint}
    (row,) = hookpoints(session.lake, session.capture, [hookpoint])
    session.refresh("latents")
    counted = queries.load("stats/buckets").table(
        session.con, bucket_latents=row["bucket_latents"], **key
    )
    n_counted: dict[int, int] = {}
    for bucket, n in zip(counted["bucket"].to_pylist(), counted["n"].to_pylist(), strict=True):
        n_counted[bucket] = n_counted.get(bucket, 0) + n
    return Choice(
        hookpoint=hookpoint,
        version=version,
        width=row["bucket_latents"],
        n_latents=row["n_latents"],
        n_counted=n_counted,
        latents=chosen_latents(
            session.lake,
            session.capture,
            hookpoint,
            session.config,
            n_latents=row["n_latents"],
        ),
    )
