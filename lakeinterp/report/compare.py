"""Two runs side by side: the difference of every metric on shared latents, with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import queries, units
from lakeinterp.report import words
from lakeinterp.report.statistics import tail
from lakeinterp.report.terminal import heading, indented, lines, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    from rich.console import RenderableType

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake

SHOWN = (
    "balanced_accuracy",
    "auroc",
    "precision_natural",
    "recall_natural",
    "f1_natural",
    "auprc_natural",
    "correlation",
)
"""Metrics that are compared unless others are named, as far as both runs have them."""
_KINDS = ("capture", "explainer", "scorer")
"""What a word of a request may name; a word that fits several names the first."""
_FIELDS = ("capture", "explainer", "made", "scorer", "settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One way in which latents were explained and scored; the columns of `scores` that name it."""

    capture: str
    coder: str
    explainer: str
    made: str
    """Digest of the explainer's settings and models."""
    scorer: str
    settings: str
    """Digest of the scorer's settings and models."""

    def __str__(self) -> str:
        """Return the run as `compare` takes it."""
        made, settings = self.made[:8], self.settings[:8]
        return f"{self.capture} {self.explainer}@{made} {self.scorer}@{settings}"

    def values(self, side: str) -> dict[str, str]:
        """Return the parameters of `report/compare` for one side."""
        return {f"{name}_{side}": getattr(self, name) for name in _FIELDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of comparing two runs."""

    a: Run
    b: Run
    is_paired: bool
    """Whether the same latents were compared: both runs have the same coder."""
    rows: list[dict[str, Any]]
    """As `sql/report/compare.sql` gives them."""
    pooled: tuple[dict[str, Any], dict[str, Any]]
    """Of A and B, as `sql/report/reference.sql` gives them."""

    @staticmethod
    def reckoned(pooled: dict[str, Any]) -> str:
        """Return one of `pooled` in words."""
        shown = ("balanced_accuracy", "f1", "weighted_f1", "auroc")
        parts = [
            f"{words.metric_name(name)} {words.score(pooled[f'reference_{name}'])}"
            for name in shown
        ]
        return f"{', '.join(parts)} over {words.count(pooled['n'])} items"


def runs(lake: Lake) -> list[Run]:
    """Return all runs that the lake holds scores of, newest first."""
    with lake.connect() as con:
        rows = queries.load("report/compare_runs").table(con).to_pylist()
    return [Run(coder=row["coder"], **{name: row[name] for name in _FIELDS}) for row in rows]


def matching(found: Sequence[Run], asked: str) -> list[Run]:
    """Return the newest runs that fulfil every word of `asked`.

    A word is a capture, an explainer or a scorer, or `name@digest` with the beginning of the
    digest of its settings, as `runs` shows them. A name that is of several kinds is taken for the
    first of these; `scorer=name` says what is meant.

    Raises:
        NotFound: there is none; the message lists those there are.
    """
    return _readings(found, asked)[0][1]


def pairs(lake: Lake, a: str, b: str) -> list[tuple[Run, Run]]:
    """Return the runs of two requests that differ in as little as possible, paired.

    `pairs(lake, "pattern", "default")` gives one pair for each scorer that judged both. Where a
    name is both an explainer's and a scorer's, it is read as what the other request names.

    Raises:
        NotFound: a request fits no run.
        ConfigError: both requests name the same run.
    """
    return paired(runs(lake), a, b)


def paired(found: Sequence[Run], a: str, b: str) -> list[tuple[Run, Run]]:
    """Return what `pairs` returns, of these runs."""
    read = list(product(_readings(found, a), _readings(found, b)))
    read.sort(key=lambda sides: set(sides[0][0]) != set(sides[1][0]))
    for (_, first), (_, second) in read:
        if every := [(x, y) for x, y in product(first, second) if x != y]:
            most = max(_alike(*pair) for pair in every)
            return [pair for pair in every if _alike(*pair) == most]
    raise ConfigError(f"compare: {a!r} and {b!r} are the same run")


def compare(
    lake: Lake,
    a: Run,
    b: Run,
    *,
    hookpoints: Sequence[str] = (),
    metrics: Sequence[str] = SHOWN,
    seed: int = 0,
) -> Comparison:
    """Compare two runs metric by metric.

    Latents are paired where both runs have the same coder; otherwise equal numbers do not mean
    equal latents, and the means of all are compared.

    Args:
        lake: The lake.
        a: What is compared with.
        b: What is compared.
        hookpoints: Names; empty takes all.
        metrics: Names; empty takes all.
        seed: Of the bootstrap.

    Raises:
        ConfigError: no latent has the same metric in both.
        NotFound: one of them has no such hookpoint.
    """
    is_paired = a.coder == b.coder
    values = {**a.values("a"), **b.values("b"), "hookpoints": list(hookpoints), "seed": seed}
    query = queries.load("report/compare")
    with lake.connect() as con:

        def ask(n: int) -> list[dict[str, Any]]:
            given = {**values, "metrics": list(metrics), "paired": is_paired, "tail": tail(n)}
            return list(query.table(con, **given).to_pylist())

        rows = [r for r in ask(256) if r["n_a"] and r["n_b"]]
        fewest = min((min(r["n_a"], r["n_b"]) for r in rows), default=0)
        if 1 < fewest < 256:
            rows = [r for r in ask(fewest) if r["n_a"] and r["n_b"]]
        first, second = (_pooled(con, run, hookpoints) for run in (a, b))
    if not rows:
        for run in (a, b) if hookpoints else ():
            units.hookpoints(lake, run.capture, hookpoints)
        raise ConfigError(
            f"compare: {a} and {b} share no latent with a score of {', '.join(metrics)}; "
            '`lakeinterp sql "SELECT DISTINCT scorer, metric FROM scores"` lists what there is'
        )
    return Comparison(a=a, b=b, is_paired=is_paired, rows=rows, pooled=(first, second))


def compare_all(
    lake: Lake,
    a: str,
    b: str,
    config: Config,
    *,
    hookpoints: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> list[Comparison]:
    """Compare every pair of runs that two requests name; see `pairs` and `compare`.

    Args:
        lake: The lake.
        a: A request, as `matching` takes it.
        b: What is compared with it.
        config: `score.headline` is compared too.
        hookpoints: Names; empty takes all.
        metrics: Names; empty takes the usual ones.
    """
    chosen = tuple(metrics) or tuple(dict.fromkeys((config.score.headline, *SHOWN)))
    seed = config.sampling.seed
    return [
        compare(lake, one, other, hookpoints=hookpoints, metrics=chosen, seed=seed)
        for one, other in pairs(lake, a, b)
    ]


def shown(found: Comparison) -> RenderableType:
    """Return a comparison for a terminal."""
    how = "paired" if found.is_paired else "not paired: the coders differ"
    facts = [("A", str(found.a)), ("B", str(found.b)), ("latents", how)]
    facts += [
        (f"{side} as delphi reckons it", found.reckoned(row))
        for side, row in zip("AB", found.pooled, strict=True)
        if has_reference(row)
    ]
    if left_out := _left_out(found):
        facts.append(("left out", left_out))
    if not (failing := _any_failed(found)):
        facts.append(("failed", "nothing on either side"))
    columns = ("A", "B", "B − A, 95 %", "latents", "B higher\n: lower", "q ≤\n0.05")
    parts = table("metric", *columns, *(["failed"] if failing else []))
    for row in found.rows:
        by = "" if row["mean"] == "macro" else ", by frequency"
        better, worse = words.count(row["n_better"]), words.count(row["n_worse"])
        parts.add_row(
            Text(f"{words.metric_name(row['metric'])}{by}"),
            words.score(row["a"]),
            words.score(row["b"]),
            f"{words.score(row['difference'])} {words.bounds(row['low'], row['high'])}".rstrip(),
            _latents(row, is_paired=found.is_paired),
            f"{better} : {worse}" if found.is_paired else "–",
            f"{words.count(row['above_a'])}, {words.count(row['above_b'])}",
            *([_failed(row)] if failing else []),
        )
    return Group(heading("Compared", "A with B"), lines(facts), indented(parts))


def _left_out(found: Comparison) -> str:
    """Return how many latents have a value on one side alone; by metric where that differs."""
    alone = {
        row["metric"]: (row["alone_a"] or 0, row["alone_b"] or 0)
        for row in found.rows
        if row["mean"] == "macro"
    }
    if not any(map(any, alone.values())):
        return ""
    usual = next(iter(alone.values()))
    parts = [_sides(usual)]
    parts += [
        f"of {words.metric_name(metric)} {_sides(counts)}"
        for metric, counts in alone.items()
        if counts != usual
    ]
    return f"latents with a score on one side alone: {'; '.join(parts)}"


def _sides(counts: tuple[int, int]) -> str:
    return f"A {words.count(counts[0])}, B {words.count(counts[1])}"


def _any_failed(found: Comparison) -> bool:
    return any(row["failed_a"] or row["failed_b"] for row in found.rows)


def _failed(row: dict[str, Any]) -> str:
    return f"{words.share(row['failed_a'])}, {words.share(row['failed_b'])}"


def has_reference(pooled: dict[str, Any]) -> bool:
    """Return whether there is anything that delphi would reckon: true and false items."""
    return pooled["reference_balanced_accuracy"] is not None


def _pooled(con: duckdb.DuckDBPyConnection, run: Run, hookpoints: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(run, name) for name in _FIELDS}
    values["hookpoints"] = list(hookpoints)
    (row,) = queries.load("report/reference").table(con, **values).to_pylist()
    return dict(row)


def _latents(row: dict[str, Any], *, is_paired: bool) -> str:
    both = words.count(row["n_a"])
    return both if is_paired else f"{both}, {words.count(row['n_b'])}"


def _readings(found: Sequence[Run], asked: str) -> list[tuple[tuple[str, ...], list[Run]]]:
    """Return each way to read a request that fits any run: what its words name, and newest runs.

    Raises:
        NotFound: there is no way; the message lists the runs there are.
    """
    asked_words, read = asked.split(), []
    for kinds in permutations(_KINDS, len(asked_words)) if asked_words else ():
        newest: dict[tuple[str, ...], Run] = {}
        for run in found:
            if all(_fits(run, kind, word) for kind, word in zip(kinds, asked_words, strict=True)):
                newest.setdefault((run.capture, run.explainer, run.scorer), run)
        if newest:
            read.append((kinds, list(newest.values())))
    if not read:
        raise NotFound("run", asked, [str(run) for run in found])
    return read


def _fits(run: Run, kind: str, word: str) -> bool:
    if word.startswith(f"{kind}="):
        word = word.removeprefix(f"{kind}=")
    name, _, digest = word.partition("@")
    settings = {"explainer": run.made, "scorer": run.settings}.get(kind, "")
    return name == getattr(run, kind) and settings.startswith(digest)


def _alike(a: Run, b: Run) -> int:
    return sum(getattr(a, name) == getattr(b, name) for name in ("capture", "explainer", "scorer"))
