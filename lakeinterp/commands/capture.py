"""`lakeinterp capture`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lakeinterp.commands.common import Common, console, size

if TYPE_CHECKING:
    from lakeinterp.capture import Captured
    from lakeinterp.config import Config

_DEFAULT = Common()

ModelArgument = Annotated[
    str | None, Parameter(help="Model folder or hub id. [setting: capture.model]")
]
CoderArgument = Annotated[
    str | None, Parameter(help="Folder or hub id of sparse coders. [setting: capture.coder]")
]
DatasetOption = Annotated[
    str | None,
    Parameter(help="File, folder, hub id, or `demo` for the text. [setting: corpus.dataset]"),
]
TokensOption = Annotated[
    int | None, Parameter(name="--n-tokens", help="Tokens to capture. [setting: capture.n_tokens]")
]
WhereOption = Annotated[
    tuple[str, ...] | None,
    Parameter(
        name="--hookpoints",
        help="Hookpoints; all of the coder folder if not given. [setting: capture.hookpoints]",
        consume_multiple=True,
        negative=(),
    ),
]

FormatOption = Annotated[
    str | None,
    Parameter(
        name="--format",
        help="Format of the coders, found from their files if not given; `neurons` takes the "
        "model's own MLP neurons. [setting: capture.format]",
    ),
]
ControlOption = Annotated[
    Literal["none", "random-coder", "random-model"] | None,
    Parameter(
        name="--control",
        help="Capture a control instead: random directions, or a model with weights drawn anew. "
        "[setting: capture.control]",
    ),
]


def capture(
    model: ModelArgument = None,
    coder: CoderArgument = None,
    /,
    *,
    hookpoints: WhereOption = None,
    dataset: DatasetOption = None,
    n_tokens: TokensOption = None,
    format: FormatOption = None,
    control: ControlOption = None,
    common: Common = _DEFAULT,
) -> None:
    """Run a model and its sparse coders over a corpus into the lake.

    A killed run continues where it stopped; more tokens are added to what is there.
    """
    own = values(model, coder, hookpoints, dataset, n_tokens)
    own |= {"capture.format": format, "capture.control": control}
    run(common.load(own))


def values(
    model: str | None,
    coder: str | None,
    hookpoints: tuple[str, ...] | None,
    dataset: str | None,
    n_tokens: int | None,
) -> dict[str, object]:
    """Return the settings that the command's own arguments stand for."""
    return {
        "capture.model": model,
        "capture.coder": coder,
        "capture.hookpoints": hookpoints,
        "corpus.dataset": dataset,
        "capture.n_tokens": n_tokens,
    }


def run(config: Config) -> Captured:
    """Capture with a progress bar and say what was done."""
    from lakeinterp.capture import capture as capture_now
    from lakeinterp.commands.progress import CaptureProgress
    from lakeinterp.lake import Lake

    start = time.monotonic()
    with CaptureProgress() as progress:
        done = capture_now(
            Lake(config.lake, storage_options=config.store_options()), config, progress=progress
        )
    seconds = time.monotonic() - start
    out = console()
    if done.n_shards:
        out.print(
            f"captured {done.n_tokens:,} tokens, {done.n_rows:,} activations "
            f"({done.n_bytes / max(1, done.n_rows):.1f} bytes each, {size(done.n_bytes)}) in "
            f"{seconds:.1f} s as {done.capture}"
        )
    else:
        out.print(f"captured nothing new: {done.capture} is complete ({done.n_skipped} shards)")
    return done
