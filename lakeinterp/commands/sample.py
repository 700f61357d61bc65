"""`lakeinterp sample`."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from lakeinterp.commands.common import (
    CaptureOption,
    Common,
    HookpointsOption,
    LatentOptions,
    console,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakeinterp.config import Config
    from lakeinterp.terms import Unit

_DEFAULT = Common()
_ALL = LatentOptions()


def sample(
    *,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    chosen: LatentOptions = _ALL,
    common: Common = _DEFAULT,
) -> None:
    """Compute latent statistics and draw examples for each latent.

    Explain and score examples come from different documents; every example is audited.
    """
    run(common.load(chosen.values()), capture, hookpoints)


def run(config: Config, capture: str | None, hookpoints: Sequence[str] = ()) -> None:
    """Sample with a progress bar and say what was found."""
    from lakeinterp.commands.progress import UnitProgress
    from lakeinterp.lake import Lake
    from lakeinterp.sampling import sample as sample_now

    start = time.monotonic()
    lake = Lake(config.lake, storage_options=config.store_options())
    with UnitProgress("sample") as bar:

        def progress(step: str, unit: Unit, done: int, total: int) -> None:
            bar(done, total, f"{step} {unit.hookpoint}")

        if config.sampling.needs_coder:
            from lakeinterp.capture.neighbours import write_neighbours

            write_neighbours(
                lake,
                config,
                capture=capture,
                hookpoints=hookpoints,
                progress=partial(progress, "neighbours"),
            )
        done = sample_now(
            lake,
            config,
            capture=capture,
            hookpoints=hookpoints,
            progress=progress,
        )
    total = {
        name: sum(getattr(unit, name) for unit in done)
        for name in ("n_latents", "n_ok", "n_rare", "n_dead", "n_dense", "n_drawn", "n_examples")
    }
    n_short = sum(len(unit.shortfalls) for unit in done)
    out = console()
    out.print(
        f"sampled {total['n_latents']:,} latents ({total['n_ok']:,} ok, {total['n_rare']:,} rare, "
        f"{total['n_dead']:,} dead, {total['n_dense']:,} dense); {total['n_examples']:,} examples "
        f"of {total['n_drawn']:,} latents in {time.monotonic() - start:.1f} s"
    )
    if n_short:
        out.print(f"  {n_short:,} draws found fewer windows than asked for: the corpus has no more")
