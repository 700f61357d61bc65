"""`lakeinterp stale`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lakeinterp.commands.common import (
    CaptureOption,
    Common,
    HookpointsOption,
    LatentOptions,
    console,
)
from lakeinterp.commands.rescore import RescoreOptions

if TYPE_CHECKING:
    from rich.table import Table

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.report.output import Format
    from lakeinterp.rescore import Staleness

_DEFAULT = Common()
_ALL = LatentOptions()
_CHANGED = RescoreOptions()
OutputOption = Annotated[
    Path | None, Parameter(help="Write all rows to this file: .csv, .json or .parquet.")
]
FormatOption = Annotated[
    Literal["table", "csv", "json", "parquet"] | None,
    Parameter(help="Print the rows like this. [default: by the name of --output]"),
]
_SHOWN = 20
"""Rows of the table."""
WHY = {
    "unexplained": "there is no explanation yet",
    "prompt": "made with another prompt",
    "settings": "made with other settings or another model",
    "tokens": "made from fewer tokens",
    "examples": "made from examples of other settings",
    "failed": "failed",
    "unscored": "never scored",
    "judge": "judged with other settings or by another model",
    "older": "older than asked",
    "wider": "interval wider than asked",
}
"""Reasons of `sql/report/stale.sql` in words."""


def stale(
    *,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    changed: RescoreOptions = _CHANGED,
    chosen: LatentOptions = _ALL,
    output: OutputOption = None,
    format: FormatOption = None,
    common: Common = _DEFAULT,
) -> None:
    """Show what `lakeinterp rescore` would do again, why, and what it would cost.

    Nothing is written and no language model is asked.
    """
    from lakeinterp.rescore import stale as find

    config = common.load({**changed.values(), **chosen.values()})
    lake = common.open(config)
    found = find(lake, config, capture=capture, hookpoints=hookpoints)
    if output is not None or format is not None:
        _write(found, output, format)
    else:
        _show(lake, config, found)


def _show(lake: Lake, config: Config, found: Staleness) -> None:
    from lakeinterp.rescore import costs, past, reckoned

    out = console()
    if found.n_due:
        out.print(
            f"{found.n_due} of {len(found.captured.buckets)} units are counted and drawn again "
            "first: other settings, or their latents fired in tokens captured since",
            soft_wrap=True,
        )
    if not found.rows:
        out.print(f"{found.capture}: nothing of {found.n_chosen:,} latents is out of date")
        return
    out.print(
        f"{found.capture}: {found.n_latents:,} of {found.n_chosen:,} latents have something out "
        "of date, with each scorer:",
        soft_wrap=True,
    )
    for reason, n in found.reasons.most_common():
        out.print(f"  {n:>9,}  {reason:12} {WHY[reason]}")
    known = past(lake, found.capture, found.rows[0].explainer)
    known = reckoned(lake, config, found, known)
    out.print(f"at most {costs(found.rows, known)}", soft_wrap=True, markup=False)
    out.print()
    out.print(_table(found))
    if len(found.rows) > _SHOWN:
        out.print(f"and {len(found.rows) - _SHOWN:,} more; --output FILE writes all of them")


def _table(found: Staleness) -> Table:
    from lakeinterp.report import words
    from lakeinterp.report.terminal import plain, table

    made = table("latent", "scorer", "why", "score", "interval", "scored")
    for row in found.rows[:_SHOWN]:
        made.add_row(
            plain(f"{row.hookpoint} {row.latent}"),
            row.scorer,
            ", ".join(row.reasons),
            words.score(row.value),
            words.score(row.width),
            f"{row.scored_at:%Y-%m-%d %H:%M}" if row.scored_at else "–",
        )
    return made


def _write(found: Staleness, output: Path | None, format: Format | None) -> None:
    import duckdb

    from lakeinterp.report.output import format_of, write_result

    rows = duckdb.connect().from_arrow(found.table())
    n_rows = write_result(rows, format=format_of(format, output), output=output, console=console())
    if output is not None:
        console(stderr=True).print(f"{n_rows:,} rows to {output}")
