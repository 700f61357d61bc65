"""`lakeinterp run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.commands import capture as capture_command
from lakeinterp.commands import explain as explain_command
from lakeinterp.commands import report as report_command
from lakeinterp.commands import sample as sample_command
from lakeinterp.commands import score as score_command
from lakeinterp.commands.capture import (
    CoderArgument,
    DatasetOption,
    ModelArgument,
    TokensOption,
    WhereOption,
)
from lakeinterp.commands.common import Common
from lakeinterp.commands.explain import ExplainerOption
from lakeinterp.commands.report import OutputOption
from lakeinterp.commands.score import ScorersOption

if TYPE_CHECKING:
    from pathlib import Path

    from lakeinterp.config import Config

_DEFAULT = Common()


def run(
    model: ModelArgument = None,
    coder: CoderArgument = None,
    /,
    *,
    hookpoints: WhereOption = None,
    dataset: DatasetOption = None,
    n_tokens: TokensOption = None,
    explainer: ExplainerOption = None,
    scorers: ScorersOption = None,
    output: OutputOption = None,
    common: Common = _DEFAULT,
) -> int:
    """Capture, sample, explain, score and report in one go.

    Every step skips what is done: the same command continues a run that was killed.
    """
    values = capture_command.values(model, coder, hookpoints, dataset, n_tokens)
    values |= {"explain.explainer": explainer, "score.scorers": scorers}
    return everything(common.load(values), output)


def everything(config: Config, output: Path | None) -> int:
    """Run all steps and return the exit code: 3 if a language model's answers failed."""
    _check_models(config)
    done = capture_command.run(config)
    sample_command.run(config, done.capture)
    codes = [
        explain_command.run(config, done.capture),
        score_command.run(config, done.capture),
    ]
    report_command.run(config, done.capture, output)
    return max(codes)


def _check_models(config: Config) -> None:
    """Find a missing model now rather than after hours of capture."""
    from lakeinterp import pipeline

    pipeline.check_chat(config)
