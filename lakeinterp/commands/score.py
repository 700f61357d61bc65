"""`lakeinterp score`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp.commands.asking import ChatOptions, ask
from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, LatentOptions

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
        help="`pattern` (no language model), `detection`, `fuzzing`. [setting: score.scorers]",
        consume_multiple=True,
        negative=(),
    ),
]


def score(
    *,
    scorers: ScorersOption = None,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    chosen: LatentOptions = _ALL,
    asking: ChatOptions = _ASKING,
    common: Common = _DEFAULT,
) -> int:
    """Say how far each explanation can be trusted.

    Every score has an interval, its failures, and the score of borrowed explanations beside it.
    """
    config = common.load({"score.scorers": scorers, **chosen.values(), **asking.values()})
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
