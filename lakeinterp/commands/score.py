"""`lakeinterp score`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp import registry
from lakeinterp.commands.asking import ChatOptions, ask
from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, LatentOptions
from lakeinterp.commands.explain import PromptsOption, with_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import Config

_DEFAULT = Common()
_ALL = LatentOptions()
_ASKING = ChatOptions()

ScorersOption = Annotated[
    tuple[str, ...] | None,
    Parameter(
        name="--scorers",
        help=f"Some of {', '.join(f'`{n}`' for n in registry.SCORERS)}. [setting: score.scorers]",
        consume_multiple=True,
        negative=(),
    ),
]
JudgedOption = Annotated[
    str | None,
    Parameter(
        help="Whose explanations are judged: those made with the present explain settings, or the "
        "newest where there are none. [setting: explain.explainer]"
    ),
]


def score(
    *,
    scorers: ScorersOption = None,
    explainer: JudgedOption = None,
    prompts: PromptsOption = None,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    chosen: LatentOptions = _ALL,
    asking: ChatOptions = _ASKING,
    common: Common = _DEFAULT,
) -> int:
    """Say how far each explanation can be trusted.

    Every score has an interval, its failures, and the score of borrowed explanations beside it.
    """
    values = {"explain.explainer": explainer, "score.scorers": scorers, **with_prompts(prompts)}
    config = common.load({**values, **chosen.values(), **asking.values()})
    return run(config, capture, hookpoints)


def run(config: Config, capture: str | None, hookpoints: Sequence[str] = ()) -> int:
    """Score with a progress bar, say what came out, and return the exit code."""
    from lakeinterp import pipeline

    return ask(
        pipeline.score,
        f"judged with {', '.join(config.score.scorers)}",
        config,
        capture,
        hookpoints,
    )
