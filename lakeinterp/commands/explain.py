"""`lakeinterp explain`."""

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

ExplainerOption = Annotated[
    str | None,
    Parameter(help="`pattern` (no language model) or `default`. [setting: explain.explainer]"),
]


def explain(
    *,
    explainer: ExplainerOption = None,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    chosen: LatentOptions = _ALL,
    asking: ChatOptions = _ASKING,
    common: Common = _DEFAULT,
) -> int:
    """Say what each latent means.

    Latents that have an explanation with the same settings are skipped; failed calls are retried.
    """
    config = common.load({"explain.explainer": explainer, **chosen.values(), **asking.values()})
    return run(config, capture, hookpoints)


def run(config: Config, capture: str | None, hookpoints: Sequence[str] = ()) -> int:
    """Explain with a progress bar, say what came out, and return the exit code."""
    from lakeinterp import pipeline

    return ask(
        pipeline.explain, f"explained with {config.explain.explainer}", config, capture, hookpoints
    )
