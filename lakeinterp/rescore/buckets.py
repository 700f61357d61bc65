"""Over how many tokens each bucket was counted and drawn, and whether its latents fired since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeinterp.lake import units
from lakeinterp.lake.commits import app_ids, live_files
from lakeinterp.sampling.statistics import made_from, statistics_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deltalake import DeltaTable

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake import Lake
    from lakeinterp.terms import Unit

LEVELS = 4
"""Samples of a latent: the settings' own, then twice, four and eight times as many examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One unit and the corpus that its statistics and examples are made from."""

    unit: Unit
    n_sequences: int
    """Leading sequences of what is captured; fewer than all where nothing fired in the rest."""
    is_due: bool
    """Whether it has to be counted and drawn again, or for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """How far a capture is, and where it was when buckets were counted."""

    n_sequences: int
    """Captured and to be sampled by now."""
    earlier: tuple[int, ...]
    """Sequences that rows may be made from: ends of shards and of recorded counts, ascending."""
    buckets: tuple[Bucket, ...]


def buckets_of(
    lake: Lake,
    sampling: SamplingConfig,
    capture: str,
    hookpoints: Sequence[str] = (),
    *,
    whole: bool = False,
) -> Captured:
    """Return the buckets of a capture; reads nothing but the logs of the tables.

    A bucket is due if its statistics or examples were never made with these settings, or if one of
    its latents fired in tokens captured since: a file of it reaches beyond them. A bucket in which
    nothing fired keeps its rows, which say of themselves over how many tokens they are
    (`latents.n_tokens`); what a draw from the longer corpus would change is which silent windows
    stand beside the same activating ones.

    Args:
        lake: The lake.
        sampling: The settings.
        capture: Its id.
        hookpoints: Only these; empty takes all.
        whole: Every bucket is due once more tokens are captured.
    """
    n = units.sampled_sequences(lake, capture, sampling)
    found = units.units(lake, capture, hookpoints)
    ends = _ends(lake, capture)
    recorded = {unit: lake.committed("history", sequences_app(unit)) for unit in found}
    made = _Made(lake, capture, sampling)
    reach = {} if made.all(found, n) else _reach(lake, capture, hookpoints)
    buckets = []
    for unit in found:
        tries = [n] if whole else [n, recorded[unit], *reversed(ends)]
        last = reach.get(unit, 0)
        at = next((m for m in tries if m and last <= m <= n and made.of(unit, m)), None)
        buckets.append(Bucket(unit=unit, n_sequences=at or n, is_due=at is None))
    earlier = {m for m in (*ends, *recorded.values(), *_counted(lake, capture)) if 0 < m < n}
    return Captured(n_sequences=n, earlier=tuple(sorted(earlier)), buckets=tuple(buckets))


def sequences_app(unit: Unit) -> str:
    """Return the application id under which is recorded over how many sequences a unit counts."""
    return f"sequences/{unit}"


def corpus_app(capture: str, n_sequences: int) -> str:
    """Return the application id that says that something was counted over so many sequences."""
    return f"corpus/{capture}/{n_sequences}"


def _counted(lake: Lake, capture: str) -> set[int]:
    """Return over how many sequences anything was counted, as far as `history` recorded it."""
    if lake.table("history") is None:
        return set()
    begin = corpus_app(capture, 0)[:-1]
    apps = app_ids(lake.store, "history")
    found = [app.removeprefix(begin) for app in apps if app.startswith(begin)]
    return {int(n) for n in found if n.isdigit()}


class _Made:
    """What the logs say of the statistics and examples that were made."""

    def __init__(self, lake: Lake, capture: str, sampling: SamplingConfig) -> None:
        self._lake, self._capture, self._sampling = lake, capture, sampling
        self._latents, self._examples = lake.table("latents"), lake.table("examples")
        self._known: dict[int, tuple[int, str]] = {}

    def of(self, unit: Unit, n: int) -> bool:
        """Whether a unit's statistics and examples were made from so many sequences."""
        if n not in self._known:
            sample = units.sample_id(self._lake, self._capture, self._sampling, n_sequences=n)
            self._known[n] = made_from(self._sampling, n), sample
        stamp, sample = self._known[n]
        return _version(self._latents, statistics_app(unit)) == stamp and bool(
            _version(self._examples, units.examples_app(unit, sample))
        )

    def all(self, found: Iterable[Unit], n: int) -> bool:
        """Whether all of them were."""
        return all(self.of(unit, n) for unit in found)


def _version(delta: DeltaTable | None, app: str) -> int:
    return 0 if delta is None else int(delta.transaction_version(app) or 0)


def _ends(lake: Lake, capture: str) -> list[int]:
    """Return how many sequences were captured after each shard, as far as there is no hole."""
    delta = lake.table("activations")
    found, done, shard = [], 0, 0
    while count := _version(delta, units.shard_app(capture, shard)):
        done, shard = done + count, shard + 1
        found.append(done)
    return found


def _reach(lake: Lake, capture: str, hookpoints: Sequence[str]) -> dict[Unit, int]:
    """Return for each unit that has rows the sequences up to the last in which it fires."""
    from lakeinterp.terms import Unit

    delta = lake.table("activations")
    if delta is None:
        return {}
    context = int(lake.capture(capture)["context_tokens"])
    found: dict[Unit, int] = {}
    for row in units.hookpoints(lake, capture, hookpoints):
        place = {"capture": capture, "hookpoint": str(row["hookpoint"])}
        for file in live_files(delta, **place):
            unit = Unit(**place, bucket=int(file.partition["bucket"]))
            last = file.maximum.get("token")
            # A file that does not say how far it reaches may reach to the end.
            end = 2**62 if last is None else int(last) // context + 1
            found[unit] = max(found.get(unit, 0), end)
    return found
