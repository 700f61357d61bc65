"""`lakeinterp drift`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, console
from lakeinterp.commands.explain import ExplainerOption
from lakeinterp.commands.score import ScorersOption

_DEFAULT = Common()


def drift(
    *,
    explainer: ExplainerOption = None,
    scorers: ScorersOption = None,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    latents: Annotated[
        str | None, Parameter(help="Only these: numbers and ranges, as `0-99,512`.")
    ] = None,
    plot: Annotated[Path | None, Parameter(help="Write a picture to this file, .svg.")] = None,
    output: Annotated[
        Path | None, Parameter(help="Write all rows to this file: .csv, .json or .parquet.")
    ] = None,
    common: Common = _DEFAULT,
) -> None:
    """Show how latents changed: density, top tokens and score, with what was before.

    A moment is a count over a larger corpus, as `lakeinterp rescore` records it, or a score. The
    table shows the newest of each latent, the largest change of the first scorer's main metric
    first.
    """
    from lakeinterp.report import drift as drifting
    from lakeinterp.report.output import format_of, write_result

    values = {"explain.explainer": explainer, "score.scorers": scorers, "sampling.latents": latents}
    config = common.load(values)
    lake, out = common.open(config), console()
    chosen = config.sampling.latents
    if output is not None:
        con, rows = drifting.relation(lake, config, capture, hookpoints, chosen)
        with con:
            n = write_result(rows, format=format_of(None, output), output=output, console=out)
        console(stderr=True).print(f"{n:,} rows to {output}")
        return
    moments = drifting.drift(lake, config, capture=capture, hookpoints=hookpoints, latents=chosen)
    if not moments:
        out.print(
            f"no scores by {config.explain.explainer} and {config.score.scorers[0]} and no history "
            "here: `lakeinterp rescore` records one each time that more tokens are counted",
            soft_wrap=True,
        )
        return
    out.print(drifting.shown(moments))
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot.write_text(drifting.plot(moments), encoding="utf-8")
        out.print(f"the plot: {plot}", soft_wrap=True)
