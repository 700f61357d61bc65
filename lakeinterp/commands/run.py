"""`lakeinterp run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.commands import capture as capture_command
from lakeinterp.commands import explain as explain_command
from lakeinterp.commands import outputs as outputs_command
from lakeinterp.commands import report as report_command
from lakeinterp.commands import sample as sample_command
from lakeinterp.commands import score as score_command
from lakeinterp.commands.asking import ChatOptions
from lakeinterp.commands.capture import (
    CoderArgument,
    ControlOption,
    DatasetOption,
    DevicesOption,
    FormatOption,
    ModelArgument,
    TokensOption,
    WhereOption,
)
from lakeinterp.commands.common import Common, LatentOptions
from lakeinterp.commands.explain import ExplainerOption, PromptsOption, SourceOption
from lakeinterp.commands.report import OutputOption
from lakeinterp.commands.score import ScorersOption
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from lakeinterp.config import Config

_DEFAULT = Common()
_ALL = LatentOptions()
_ASKING = ChatOptions()


def run(
    model: ModelArgument = None,
    coder: CoderArgument = None,
    /,
    *,
    hookpoints: WhereOption = None,
    dataset: DatasetOption = None,
    n_tokens: TokensOption = None,
    format: FormatOption = None,
    control: ControlOption = None,
    devices: DevicesOption = None,
    explainer: ExplainerOption = None,
    source: SourceOption = None,
    scorers: ScorersOption = None,
    prompts: PromptsOption = None,
    output: OutputOption = None,
    chosen: LatentOptions = _ALL,
    asking: ChatOptions = _ASKING,
    common: Common = _DEFAULT,
) -> int:
    """Capture, sample, explain, score and report in one go, output tokens included.

    Every step skips what is done: the same command continues a run that was killed.
    """
    values = capture_command.values(
        model, coder, hookpoints, dataset, n_tokens, format, control, devices
    )
    values |= {"explain.explainer": explainer, "explain.source": source}
    values |= {"score.scorers": scorers, **explain_command.with_prompts(prompts)}
    values |= {**chosen.values(), **asking.values()}
    return everything(common.load(values), output)


def everything(config: Config, output: Path | None) -> int:
    """Run all steps and return the exit code: 3 if a language model's answers failed.

    Raises:
        ConfigError: a setting is wrong, or only a part of the shards is to be captured.
    """
    if config.capture.shards is not None:
        raise ConfigError(
            f"capture.shards: {config.capture.shards} captures a part, and examples are drawn from "
            "the whole: run `lakeinterp capture` for each part, then this without it"
        )
    from lakeinterp import pipeline

    pipeline.check_chat(config)  # now rather than after hours of capture
    _check_latents(config)
    done = capture_command.run(config)
    sample_command.run(config, done.capture)
    outputs_command.run_if_possible(config, done.capture)
    with pipeline.served(config) as asking:
        codes = [
            explain_command.run(asking, done.capture),
            score_command.run(asking, done.capture),
        ]
    report_command.run(config, done.capture, output)
    return max(codes)


def _check_latents(config: Config) -> None:
    """Find a wrong condition on latents now rather than after hours of capture."""
    from lakeinterp.lake import open_lake
    from lakeinterp.lake.selection import check_condition

    lake = open_lake(config)
    check_condition(lake, config.sampling)
