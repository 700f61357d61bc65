"""`lakeinterp explain`."""

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

ExplainerOption = Annotated[
    str | None,
    Parameter(help="`pattern` (no language model) or `default`. [setting: explain.explainer]"),
]


def explain(
    *,
    explainer: ExplainerOption = None,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    common: Common = _DEFAULT,
) -> int:
    """Say what each latent means.

    Latents that have an explanation with the same settings are skipped; failed calls are retried.
    """
    config = common.load({"explain.explainer": explainer})
    return run(config, capture, hookpoints)


def run(config: Config, capture: str | None, hookpoints: Sequence[str] = ()) -> int:
    """Explain with a progress bar, say what came out, and return the exit code."""
    from lakeinterp import pipeline
    from lakeinterp.commands.progress import UnitProgress, count_units

    start, found = time.monotonic(), Counter[str]()
    n_units = count_units(config, capture, hookpoints)
    with UnitProgress("explain") as bar:
        n_done = 0

        def progress(_: Unit, written: Counter[str]) -> None:
            nonlocal n_done
            n_done += 1
            found.update(written)
            bar(n_done, n_units, counts(found))

        done = pipeline.explain(
            config,
            run=pipeline.new_run(),
            capture=capture,
            hookpoints=hookpoints,
            progress=progress,
        )
    out = console()
    seconds = time.monotonic() - start
    out.print(
        f"explained with {config.explain.explainer}: {counts(done.counts)} in {seconds:.1f} s"
    )
    if done.calls:
        out.print(f"  {done.calls}")
    return 3 if done.n_failed else 0
