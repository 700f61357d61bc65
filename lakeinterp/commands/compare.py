"""`lakeinterp compare`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lakeinterp.commands.common import Common, HookpointsOption, console

_DEFAULT = Common()


def compare(
    a: Annotated[
        str,
        Parameter(
            help="A capture, explainer or scorer, or several of them: 'demo pattern'; "
            "'scorer=pattern' where an explainer has the name too."
        ),
    ],
    b: Annotated[str, Parameter(help="What is compared with it.")],
    /,
    *,
    hookpoints: HookpointsOption = (),
    metrics: Annotated[
        tuple[str, ...],
        Parameter(
            help="Only these metrics. [default: the usual ones]",
            consume_multiple=True,
            negative=(),
            show_default=False,
        ),
    ] = (),
    common: Common = _DEFAULT,
) -> None:
    """Compare two explainers, judges, coders or captures on the latents that both have scores of.

    Differences are B minus A, each with a 95 % bootstrap interval over latents.
    """
    from lakeinterp.report import compare as comparing

    config = common.load()
    lake, out = common.open(config), console()
    for found in comparing.compare_all(lake, a, b, config, hookpoints=hookpoints, metrics=metrics):
        out.print(comparing.shown(found))
