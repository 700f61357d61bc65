"""Latent statistics of a unit: rows of the `latents` table, one for every latent."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakeinterp.lake import queries
from lakeinterp.lake.commits import live_files
from lakeinterp.lake.connect import reading
from lakeinterp.lake.tables import where
from lakeinterp.lake.units import latents_of, sampled_sequences
from lakeinterp.sampling.counts import Corpus, count
from lakeinterp.sampling.fired import read
from lakeinterp.sampling.session import session_for, shown_as, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakeinterp.config import SamplingConfig
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.crew import Crew
    from lakeinterp.sampling.session import Session
    from lakeinterp.terms import Unit

N_LEVELS = 10
"""`latents.quantiles` holds the values at or below which 1, 2, ... 9 tenths of activations lie."""
N_TOP_TOKENS = 10
N_PARTS = 16
"""Equal parts of the context over which `latents.position_bias` compares places."""
_STATEMENTS = (
    *("sampling/tiles", "sampling/lookup", "sampling/placed"),
    "stats/latents",
)
_CODE = 1
"""Raised when `lakeinterp.sampling.counts` counts otherwise than before."""
_ROWS_AT_ONCE = 8_000_000
"""Activations that are counted in one go; some 60 bytes each."""
_ROWS_WORTH_IT = 1_000_000
"""Small units are counted together up to this many: planning a statement takes 10 ms."""
_UNITS_A_COMMIT = 8

Group = tuple["Unit", ...]
"""Units of one hookpoint whose latents follow each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedUnit:
    """What the statistics of one unit found."""

    unit: Unit
    n_latents: int
    n_ok: int
    n_rare: int
    n_dead: int
    n_dense: int
    is_new: bool
    """Whether rows were written; False if the lake held them already."""


def statistics_unit(
    lake: Lake, unit: Unit, config: SamplingConfig, *, session: Session | None = None
) -> CountedUnit:
    """Write the `latents` rows of a unit, or find that they are there.

    They are there when the newest commit of this unit's rows was made from the same settings,
    the same captured tokens and the same statements.

    Args:
        lake: The lake.
        unit: Which latents.
        config: `window_tokens`, `min_windows` and `dense_above` decide.
        session: An open one to work in; None opens one for this unit.

    Raises:
        NotFound: no such capture.
        LakeError: no such hookpoint in the capture.
        Conflict: other writers won every retry.
    """
    made_from = _made_from(lake, unit.capture, config)
    if lake.committed("latents", statistics_app(unit)) == made_from:
        return _counted(unit, _statuses(lake, unit)[unit.bucket], is_new=False)
    with session_for(lake, unit, config, session) as opened:
        rows = _rows(opened, (unit,), _sizes(lake, [unit]))
        _write(lake, [((unit,), rows)], made_from)
        opened.refresh("latents")
    return _counted(unit, Counter(rows["status"].to_pylist()), is_new=True)


def statistics(
    crew: Crew, todo: Sequence[Unit], progress: Callable[[Unit, int], None] | None = None
) -> list[CountedUnit]:
    """Write the `latents` rows of several units of one hookpoint, a few units in each commit.

    Args:
        crew: Works on the units; `crew.config` decides as for `statistics_unit`.
        todo: Units of the crew's hookpoint.
        progress: Called with a unit, and how many are done by then.

    Returns:
        One record a unit, in the order given.

    Raises:
        Conflict: other writers won every retry.
    """
    made_from = _made_from(crew.lake, crew.capture, crew.config)
    stale = _stale(crew.lake, todo, made_from)
    there = _statuses(crew.lake, todo[0]) if len(stale) < len(todo) else {}
    found = {u: _counted(u, there[u.bucket], is_new=False) for u in todo if u not in stale}
    fresh: list[tuple[Group, pa.Table]] = []
    sizes = _sizes(crew.lake, todo)
    groups = _groups([unit for unit in todo if unit in stale], sizes)
    made = crew.each(lambda session, group: _rows(session, group, sizes), groups)
    for group, rows in zip(groups, made, strict=True):
        fresh.append((group, rows))
        found.update(_counts(crew.lake, group, rows))
        if sum(len(g) for g, _ in fresh) >= _UNITS_A_COMMIT or group is groups[-1]:
            _write(crew.lake, fresh, made_from)
            fresh = []
        if progress:
            progress(group[-1], len(found))
    return [found[unit] for unit in todo]


def _groups(left: Sequence[Unit], sizes: Counter[int]) -> list[Group]:
    """Return units with those that follow them, as long as they are small together."""
    groups: list[list[Unit]] = []
    for unit in left:
        last = groups[-1] if groups else []
        together = sum(sizes[u.bucket] for u in (*last, unit))
        if last and unit.bucket == last[-1].bucket + 1 and together <= _ROWS_WORTH_IT:
            last.append(unit)
        else:
            groups.append([unit])
    return [tuple(group) for group in groups]


def _sizes(lake: Lake, todo: Sequence[Unit]) -> Counter[int]:
    """Return the activations of each bucket of the units' hookpoint, as its files count them."""
    delta = lake.table("activations")
    if delta is None:
        return Counter()
    place = {"capture": todo[0].capture, "hookpoint": todo[0].hookpoint}
    found: Counter[int] = Counter()
    for file in live_files(delta, **place):
        found[int(file.partition["bucket"])] += file.n_rows or _ROWS_WORTH_IT
    return found


def _made_from(lake: Lake, capture: str, config: SamplingConfig) -> int:
    return made_from(config, sampled_sequences(lake, capture, config))


def made_from(config: SamplingConfig, n_sequences: int) -> int:
    """Return the number recorded with statistics made from so many sequences by these settings."""
    settings = config.model_dump(include={"window_tokens", "min_windows", "dense_above"})
    return stamp(_STATEMENTS, settings, n_sequences, N_LEVELS, N_TOP_TOKENS, N_PARTS, _CODE)


def statistics_app(unit: Unit) -> str:
    """Return the application id under which the commits of a unit's statistics are recorded."""
    return f"latents/{unit}"


def _stale(lake: Lake, todo: Sequence[Unit], made_from: int) -> set[Unit]:
    """Return the units whose rows are not there or were made from something else."""
    delta = lake.table("latents")
    if delta is None:
        return set(todo)
    return {unit for unit in todo if delta.transaction_version(statistics_app(unit)) != made_from}


def _write(lake: Lake, made: Sequence[tuple[Group, pa.Table]], made_from: int) -> None:
    """Put the rows of some units of one hookpoint in the place of those that are there."""
    unit = made[0][0][0]
    key = where(capture=unit.capture, hookpoint=unit.hookpoint)
    ranges = [_latents_of(lake, group) for group, _ in made]
    inside = " OR ".join(f"(latent >= {r.start} AND latent < {r.stop})" for r in ranges)
    lake.replace(
        "latents",
        pa.concat_tables([rows for _, rows in made]),
        where=f"{key} AND ({inside})",
        recorded={statistics_app(unit): made_from for group, _ in made for unit in group},
    )


def _latents_of(lake: Lake, group: Group) -> range:
    """Return the latents of units that follow each other."""
    first = latents_of(lake, group[0])
    return first if len(group) == 1 else range(first.start, latents_of(lake, group[-1]).stop)


def _rows(session: Session, group: Group, sizes: Counter[int]) -> pa.Table:
    """Return the rows of some units, in the order of the latents."""
    inside, unit = _latents_of(session.lake, group), group[0]
    n_rows = sum(sizes[one.bucket] for one in group)
    n_slices = min(len(inside), max(1, -(-n_rows // _ROWS_AT_ONCE)))
    slices = [s for s in np.array_split(np.asarray(inside), n_slices) if len(s)]
    files = where(capture=unit.capture, hookpoint=unit.hookpoint)
    files += f" AND bucket >= {unit.bucket} AND bucket <= {group[-1].bucket}"
    found = pa.concat_tables([_slice(session, files, int(s[0]), int(s[-1]) + 1) for s in slices])
    return with_constants(found, capture=unit.capture, hookpoint=unit.hookpoint)


def _corpus(session: Session) -> Corpus:
    """Return what stands at each captured token, made once a session."""
    if "corpus" not in session.kept:
        tokenizer, tiles = session.lake.capture(session.capture)["tokenizer"], session.tiles
        corpus = Corpus.of(
            text=tiles.text,
            tile_of=tiles.of_token,
            tile_first=tiles.first,
            tile_document=tiles.document,
            special=session.lake.vocabulary(tokenizer).special,
            context_tokens=session.context_tokens,
            n_parts=N_PARTS,
        )
        session.con.register("frequencies", corpus.frequencies())
        session.con.register("parts", corpus.parts())
        session.kept["corpus"] = corpus
    found: Corpus = session.kept["corpus"]
    return found


def _slice(session: Session, files: str, first: int, stop: int) -> pa.Table:
    corpus = _corpus(session)
    n_tokens = len(session.tiles.of_token)
    rows = read(session.lake, files, first=first, last=stop - 1, n_tokens=n_tokens)
    counts = count(rows, corpus, first=first, n_levels=N_LEVELS, n_top=N_TOP_TOKENS)
    with ExitStack() as stack:
        for name, relation in counts._asdict().items():
            stack.enter_context(shown_as(session, name, relation))
        return queries.load("stats/latents").table(
            session.con,
            first=first,
            stop=stop,
            min_windows=session.config.min_windows,
            dense_above=session.config.dense_above,
        )


def with_constants(rows: pa.Table, **values: str | int) -> pa.Table:
    """Return rows with one more column for each value, the same in every row."""
    for name, value in values.items():
        kind = pa.string() if isinstance(value, str) else pa.int32()
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, kind), rows.num_rows))
    return rows


def _statuses(lake: Lake, unit: Unit) -> dict[int, Counter[str]]:
    """Return the statuses of a hookpoint's latents in the lake, by bucket."""
    key = {"capture": unit.capture, "hookpoint": unit.hookpoint}
    width = lake.one("hookpoints", where(**key))["bucket_latents"]
    found: dict[int, Counter[str]] = {}
    with reading(lake, ["latents"], {"latents": where(**key)}) as con:
        rows = queries.load("stats/buckets").run(con, bucket_latents=width, **key).fetchall()
    for bucket, status, n in rows:
        found.setdefault(bucket, Counter())[status] = n
    return found


def _counts(lake: Lake, group: Group, rows: pa.Table) -> dict[Unit, CountedUnit]:
    """Return what the rows of a group say of each of its units."""
    statuses, first = rows["status"].to_pylist(), _latents_of(lake, group).start
    found = {}
    for unit in group:
        mine = latents_of(lake, unit)
        status = Counter(statuses[mine.start - first : mine.stop - first])
        found[unit] = _counted(unit, status, is_new=True)
    return found


def _counted(unit: Unit, statuses: Counter[str], *, is_new: bool) -> CountedUnit:
    n: dict[str, Any] = {f"n_{name}": statuses[name] for name in ("ok", "rare", "dead", "dense")}
    return CountedUnit(unit=unit, n_latents=statuses.total(), is_new=is_new, **n)
