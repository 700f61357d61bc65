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
    Parameter(
        help="`pattern`, `none`, `constant`, `loaded`, `borrowed` or `random` (no language model); "
        "`default`, `contrastive`, `single_token`, `token_list`, `output_centric`, `both_views`, "
        "`best_of_k` or `iterative`. [setting: explain.explainer]"
    ),
]
SourceOption = Annotated[
    str | None,
    Parameter(
        help="What `loaded` reads: a CSV, JSON or JSONL file, a folder that delphi wrote, or a "
        "lake. [setting: explain.source]"
    ),
]
TakenOption = Annotated[
    str | None,
    Parameter(
        name="--source-explainer",
        help="Whose explanations `borrowed` and `random` take, and `loaded` from a lake; needed if "
        "there are several. [setting: explain.source_explainer]",
    ),
]
PromptsOption = Annotated[
    str | None,
    Parameter(
        help="Folder of prompts that replace the shipped ones; `lakeinterp prompts --copy` makes "
        "one. [settings: explain.prompts, score.prompts]"
    ),
]


def explain(
    *,
    explainer: ExplainerOption = None,
    source: SourceOption = None,
    source_explainer: TakenOption = None,
    prompts: PromptsOption = None,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    chosen: LatentOptions = _ALL,
    asking: ChatOptions = _ASKING,
    common: Common = _DEFAULT,
) -> int:
    """Say what each latent means.

    Latents that have an explanation with the same settings are skipped; failed calls are retried.
    """
    values = {
        "explain.explainer": explainer,
        "explain.source": source,
        "explain.source_explainer": source_explainer,
        **with_prompts(prompts),
    }
    config = common.load({**values, **chosen.values(), **asking.values()})
    return run(config, capture, hookpoints)


def with_prompts(folder: str | None) -> dict[str, object]:
    """Return the settings that `--prompts` stands for."""
    return {"explain.prompts": folder, "score.prompts": folder}


def run(config: Config, capture: str | None, hookpoints: Sequence[str] = ()) -> int:
    """Explain with a progress bar, say what came out, and return the exit code."""
    from lakeinterp import pipeline

    return ask(
        pipeline.explain, f"explained with {config.explain.explainer}", config, capture, hookpoints
    )
