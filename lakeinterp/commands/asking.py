"""What `lakeinterp explain` and `lakeinterp score` share: a step over units, shown as it goes."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from lakeinterp.commands.common import console, counts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakeinterp.config import Config
    from lakeinterp.pipeline import Asked
    from lakeinterp.terms import Unit


def ask(
    step: Callable[..., Asked],
    done_with: str,
    config: Config,
    capture: str | None,
    hookpoints: Sequence[str],
) -> int:
    """Run a step with a progress bar, say what came out, and return the exit code.

    Args:
        step: `pipeline.explain` or `pipeline.score`.
        done_with: Begins the line at the end, for example `judged with pattern`.
        config: The settings.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.

    Returns:
        3 if a row says that a call failed, else 0.
    """
    from lakeinterp import pipeline
    from lakeinterp.commands.progress import UnitProgress, count_units

    start, found, n_done = time.monotonic(), Counter[str](), 0
    n_units = count_units(config, capture, hookpoints)
    with UnitProgress(step.__name__) as bar:

        def progress(_: Unit, written: Counter[str]) -> None:
            nonlocal n_done
            n_done += 1
            found.update(written)
            bar(n_done, n_units, counts(found))

        run = pipeline.new_run()
        done = step(config, run=run, capture=capture, hookpoints=hookpoints, progress=progress)
    out = console()
    out.print(f"{done_with}: {counts(done.counts)} in {time.monotonic() - start:.1f} s")
    if done.calls:
        out.print(f"  {done.calls}")
    return 3 if done.n_failed else 0
