"""`lakeinterp rescore`, and the options it shares with `lakeinterp stale`."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp.commands.asking import ChatOptions
from lakeinterp.commands.common import (
    CaptureOption,
    Common,
    HookpointsOption,
    LatentOptions,
    console,
    counts,
)
from lakeinterp.commands.explain import ExplainerOption, PromptsOption, with_prompts
from lakeinterp.commands.score import ScorersOption
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from lakeinterp.rescore import Rescored
    from lakeinterp.terms import Unit

_DEFAULT = Common()
_ALL = LatentOptions()
_ASKING = ChatOptions()
_DAYS = {"m": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0}


@Parameter(name="*", group="What is redone")
@dataclass(frozen=True, kw_only=True)
class RescoreOptions:
    """Options of commands that find what is out of date."""

    explainer: ExplainerOption = None
    scorers: ScorersOption = None
    prompts: PromptsOption = None
    older_than: Annotated[
        str | None,
        Parameter(
            help="Also scores older than this, as 7d, 12h or 2w; the same items are judged anew. "
            "[setting: rescore.older_than_days]"
        ),
    ] = None
    wider_than: Annotated[
        float | None,
        Parameter(
            help="Also scores with a wider interval than this, from more examples. "
            "[setting: rescore.wider_than]"
        ),
    ] = None
    failed: Annotated[
        bool,
        Parameter(
            help="Also what failed for good: unreadable replies, refusals, answers cut short. "
            "[setting: rescore.failed]",
            negative=(),
            show_default=False,
        ),
    ] = False
    whole: Annotated[
        bool,
        Parameter(
            help="After more tokens, count and draw again for every bucket, not only for those "
            "whose latents fired in them. [setting: rescore.whole]",
            negative=(),
            show_default=False,
        ),
    ] = False

    def values(self) -> dict[str, object]:
        """Return the settings they stand for; what was not given is None."""
        return {
            "explain.explainer": self.explainer,
            "score.scorers": self.scorers,
            **with_prompts(self.prompts),
            "rescore.older_than_days": None if self.older_than is None else days(self.older_than),
            "rescore.wider_than": self.wider_than,
            "rescore.failed": self.failed or None,
            "rescore.whole": self.whole or None,
        }


@Parameter(name="*", group="Budget")
@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """How much one re-scoring may take."""

    max_calls: Annotated[
        int | None, Parameter(help="At most so many calls, as past ones suggest.")
    ] = None
    max_tokens: Annotated[int | None, Parameter(help="At most so many tokens.")] = None
    max_usd: Annotated[float | None, Parameter(help="At most so many US dollars.")] = None
    at_once: Annotated[
        int | None, Parameter(name="--first", help="Only the so many latents worth it most.")
    ] = None

    def values(self) -> dict[str, object]:
        """Return the settings they stand for; what was not given is None."""
        return {
            "rescore.max_calls": self.max_calls,
            "rescore.max_tokens": self.max_tokens,
            "rescore.max_usd": self.max_usd,
            "rescore.max_latents": self.at_once,
        }


_CHANGED = RescoreOptions()
_UNLIMITED = BudgetOptions()


def days(text: str) -> float:
    """Return a time as people write it, `7d` or `36h`, in days.

    Raises:
        ConfigError: it is not a number and one of m, h, d and w.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhdw]?)", text.strip())
    if not found or not float(found[1]):
        raise ConfigError(f"--older-than {text}: write a number and m, h, d or w, for example 7d")
    return float(found[1]) * _DAYS[found[2] or "d"]


def rescore(
    *,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    changed: RescoreOptions = _CHANGED,
    budget: BudgetOptions = _UNLIMITED,
    chosen: LatentOptions = _ALL,
    asking: ChatOptions = _ASKING,
    common: Common = _DEFAULT,
) -> int:
    """Do again what is out of date and nothing else; `lakeinterp stale` shows what that is.

    After more tokens: statistics and examples of the buckets that fired in them. Then explanations
    and scores that are missing, failed, changed, too old or too wide, the most worth first. Rows
    that are replaced stay as history.
    """
    from lakeinterp import pipeline
    from lakeinterp import rescore as rescoring
    from lakeinterp.commands.progress import UnitProgress

    values = {**changed.values(), **budget.values(), **chosen.values(), **asking.values()}
    config = common.load(values)
    common.open(config)
    start = time.monotonic()
    with UnitProgress("rescore") as bar:

        def progress(step: str, _: Unit, n_done: int, n_all: int) -> None:
            bar(n_done, n_all, step)

        given = {"capture": capture, "hookpoints": hookpoints}
        done = rescoring.rescore(
            config,
            run=pipeline.new_run(),
            **given,  # type: ignore[arg-type]
            progress=progress,
            watch=bar.watch,
        )
    for line in said(done, time.monotonic() - start):
        console().print(line, markup=False, soft_wrap=True)
    return 3 if done.n_failed else 0


def said(done: Rescored, seconds: float) -> list[str]:
    """Return what a re-scoring did as lines for people."""
    fresh = done.refreshed
    lines = [
        f"counted and drawn again: {fresh.n_refreshed} of {fresh.n_units} units, "
        f"{fresh.n_examples:,} examples"
    ]
    if done.reasons:
        why = ", ".join(f"{n:,} {name}" for name, n in done.reasons.most_common())
        lines.append(f"out of date: {why}")
    lines.append(
        f"redone: {done.n_done:,} of {done.n_done + done.n_left:,} latents and scorers in "
        f"{seconds:.1f} s"
        if done.n_done or done.n_left
        else f"nothing is out of date ({seconds:.1f} s)"
    )
    if done.n_done:
        lines.append(f"  explained {counts(done.explained)}; judged {counts(done.judged)}")
        lines.append(f"  {done.spent}")
    if done.n_left:
        lines.append(f"  {done.n_left:,} are left; the same command goes on with them")
    return lines
