"""`lakeinterp export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, console

_DEFAULT = Common()


def export(
    format: Annotated[str, Parameter(help="What is written: `delphi`, a latent cache of delphi.")],
    path: Annotated[Path, Parameter(help="Folder to write to.")],
    /,
    *,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    n_splits: Annotated[int, Parameter(help="Files a hookpoint is cut into.")] = 5,
    dtype: Annotated[
        Literal["float16", "bfloat16", "float32"],
        Parameter(help="Precision of the activations; delphi writes and reads float16."),
    ] = "float16",
    common: Common = _DEFAULT,
) -> None:
    """Write a capture in another tool's format."""
    from lakeinterp import bridges
    from lakeinterp.bridges.base import Export
    from lakeinterp.commands.progress import UnitProgress

    write = bridges.exporter(format)
    lake = common.open(common.load())
    options = Export(
        path=path, capture=capture, hookpoints=hookpoints, n_splits=n_splits, dtype=dtype
    )
    with UnitProgress("export", "activations") as progress:
        done = write(lake, options, progress=progress)
    line = f"exported {done.n_rows:,} activations of {', '.join(done.hookpoints)} to {path} in "
    line += f"{done.n_files} files"
    if done.n_rounded:
        line += f"; {done.n_rounded:,} values were rounded to {dtype}"
    console().print(line, markup=False)
