"""`lakeinterp sample`."""

from __future__ import annotations

import time
from collections import Counter
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
    from lakeinterp.sampling import SampledUnit
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
    from lakeinterp import steps
    from lakeinterp.commands.progress import UnitProgress
    from lakeinterp.lake import open_lake
    from lakeinterp.sampling import similar

    start = time.monotonic()
    lake = open_lake(config)
    if similar.needed(config.sampling):
        with UnitProgress("embed", "windows") as embedded:
            similar.prepare(lake, capture, config.sampling, progress=embedded)
    with UnitProgress("sample") as bar:

        def progress(step: str, unit: Unit, done: int, total: int) -> None:
            bar(done, total, f"{step} {unit.hookpoint}")

        done = steps.sample(config, capture, hookpoints, progress)
    total = {
        name: sum(getattr(unit, name) for unit in done)
        for name in ("n_latents", "n_ok", "n_rare", "n_dead", "n_dense", "n_drawn", "n_examples")
    }
    out = console()
    out.print(
        f"sampled {total['n_latents']:,} latents ({total['n_ok']:,} ok, {total['n_rare']:,} rare, "
        f"{total['n_dead']:,} dead, {total['n_dense']:,} dense); {total['n_examples']:,} examples "
        f"of {total['n_drawn']:,} latents in {time.monotonic() - start:.1f} s"
    )
    for line in (*unchosen(done), *shortfalls(done)):
        out.print(line, soft_wrap=True)


def unchosen(done: Sequence[SampledUnit]) -> list[str]:
    """Return a line if the settings choose no latent, or some of which nothing is drawn."""
    n = sum(unit.n_selected for unit in done)
    if not n:
        return ["  no latent fulfils sampling.latents, sampling.where and sampling.min_windows"]
    n_few = n - sum(unit.n_drawn for unit in done)
    why = "fires in fewer windows than sampling.min_windows: no examples"
    return [f"  {n_few:,} of {n:,} latents chosen: {why}"] if n_few else []


def shortfalls(done: Sequence[SampledUnit]) -> list[str]:
    """Return what was asked for and is not in the corpus, a line for each role and stratum."""
    latents: Counter[str] = Counter()
    windows: Counter[str] = Counter()
    for short in (short for unit in done for short in unit.shortfalls):
        kind = f"{short.role} · {short.stratum.replace('_', ' ')}"
        latents[kind] += short.n_latents
        windows[kind] += short.n_missing
    return [
        f"  {kind}: {windows[kind]:,} windows short in {n:,} latent{'s'[: n != 1]}; "
        "the corpus has no more"
        for kind, n in sorted(latents.items())
    ]
