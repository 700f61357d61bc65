"""`lakeinterp import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lakeinterp.commands.common import Common, console

_DEFAULT = Common()


def import_(
    format: Annotated[str, Parameter(help="What is read: `delphi`, a latent cache of delphi.")],
    path: Annotated[Path, Parameter(help="Its folder.")],
    /,
    *,
    hookpoints: Annotated[
        tuple[str, ...],
        Parameter(help="Only these hookpoints.", consume_multiple=True, negative=()),
    ] = (),
    model: Annotated[
        str | None,
        Parameter(help="Folder or hub id whose tokenizer made the tokens, if not the one named."),
    ] = None,
    without_text: Annotated[
        bool,
        Parameter(
            help="Do without the tokenizer: examples then have no text.",
            negative=(),
            show_default=False,
        ),
    ] = False,
    tokens: Annotated[
        str | None,
        Parameter(help="Sequences of token ids (.npy, Parquet, a cache), if the files hold none."),
    ] = None,
    name: Annotated[str | None, Parameter(help="Name of the capture.")] = None,
    n_latents: Annotated[
        int | None, Parameter(help="Width of the coder, if the files do not say it.")
    ] = None,
    allow_nonfinite: Annotated[
        bool,
        Parameter(
            help="Leave NaN and infinite activations out instead of stopping.",
            negative=(),
            show_default=False,
        ),
    ] = False,
    common: Common = _DEFAULT,
) -> None:
    """Read what another tool has stored into the lake, as a capture.

    The same command again adds nothing, and completes what was killed.
    """
    from lakeinterp import bridges
    from lakeinterp.bridges.base import Import
    from lakeinterp.commands.progress import UnitProgress
    from lakeinterp.lake import Lake

    read = bridges.importer(format)
    config = common.load()
    options = Import(
        path=path, name=name, hookpoints=hookpoints, model=model, without_text=without_text,
        tokens=tokens, n_latents=n_latents, allow_nonfinite=allow_nonfinite,
    )  # fmt: skip
    lake = Lake(config.lake, storage_options=config.store_options())
    with UnitProgress("import", "activations") as progress:
        done = read(lake, options, progress=progress)
    line = f"imported {done.n_rows:,} activations of {', '.join(done.hookpoints)} on "
    line += f"{done.n_sequences:,} sequences as {done.capture}"
    if done.n_dropped:
        line += f"; left out {done.n_dropped:,} that are zero or not finite"
    if not done.is_new:
        line = f"imported nothing new: {done.capture} is complete"
    console().print(line, markup=False)
