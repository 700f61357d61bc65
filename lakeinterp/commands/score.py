"""`lakeinterp score`."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, console, counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import Config
    from lakeinterp.terms import Unit

_DEFAULT = Common()

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
    common: Common = _DEFAULT,
) -> int:
    """Say how far each explanation can be trusted.

    Every score has an interval, its failures, and the score of borrowed explanations beside it.
    """
    config = common.load({"score.scorers": scorers})
    return run(config, capture, hookpoints)


def run(config: Config, capture: str | None, hookpoints: Sequence[str] = ()) -> int:
    """Score with a progress bar, say what came out, and return the exit code."""
    from lakeinterp import pipeline
    from lakeinterp.commands.progress import UnitProgress, count_units

    start, found = time.monotonic(), Counter[str]()
    n_units = count_units(config, capture, hookpoints)
    with UnitProgress("score") as bar:
        n_done = 0

        def progress(_: Unit, written: Counter[str]) -> None:
            nonlocal n_done
            n_done += 1
            found.update(written)
            bar(n_done, n_units, counts(found))

        done = pipeline.score(
            config,
            run=pipeline.new_run(),
            capture=capture,
            hookpoints=hookpoints,
            progress=progress,
        )
    out = console()
    names = ", ".join(config.score.scorers)
    seconds = time.monotonic() - start
    out.print(f"judged with {names}: {counts(done.counts)} in {seconds:.1f} s")
    if done.calls:
        out.print(f"  {done.calls}")
    return 3 if done.n_failed else 0
