"""`lakeinterp capture`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lakeinterp.commands.common import Common, console, size

if TYPE_CHECKING:
    from collections.abc import Iterator

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
DevicesOption = Annotated[
    str | None,
    Parameter(
        name="--devices",
        help="Devices that share the work, one process each: cuda:0,cuda:1, or cuda for every GPU, "
        "or cpu:2. [setting: capture.devices]",
    ),
]
ShardsOption = Annotated[
    str | None,
    Parameter(
        name="--shards",
        help="Capture one part of n, as 2/3 for the second of three; the same command does the "
        "others on other machines, into the same lake. [setting: capture.shards]",
    ),
]
NonfiniteOption = Annotated[
    bool | None,
    Parameter(
        name="--allow-nonfinite",
        help="Leave out and count activations that are NaN or infinite instead of stopping. "
        "[setting: capture.allow_nonfinite]",
        negative=(),
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
    devices: DevicesOption = None,
    shards: ShardsOption = None,
    allow_nonfinite: NonfiniteOption = None,
    common: Common = _DEFAULT,
) -> None:
    """Run a model and its sparse coders over a corpus into the lake.

    A killed run continues where it stopped; more tokens are added to what is there.
    """
    own = values(model, coder, hookpoints, dataset, n_tokens, format, control, devices)
    own |= {"capture.shards": shards, "capture.allow_nonfinite": allow_nonfinite}
    run(common.load(own))


def values(
    model: str | None,
    coder: str | None,
    hookpoints: tuple[str, ...] | None,
    dataset: str | None,
    n_tokens: int | None,
    format: str | None = None,
    control: str | None = None,
    devices: str | None = None,
) -> dict[str, object]:
    """Return the settings that the command's own arguments stand for."""
    return {
        "capture.format": format,
        "capture.control": control,
        "capture.devices": devices,
        "capture.model": model,
        "capture.coder": coder,
        "capture.hookpoints": hookpoints,
        "corpus.dataset": dataset,
        "capture.n_tokens": n_tokens,
    }


def run(config: Config) -> Captured:
    """Capture with a progress bar and say what was done."""
    from lakeinterp import steps
    from lakeinterp.commands.progress import CaptureProgress

    start = time.monotonic()
    with CaptureProgress() as progress:
        done = steps.capture(config, progress)
    seconds = time.monotonic() - start
    out = console()
    if done.n_shards:
        out.print(
            f"captured {done.n_tokens:,} tokens, {done.n_rows:,} activations "
            f"({done.n_bytes / max(1, done.n_rows):.1f} bytes each, {size(done.n_bytes)}) in "
            f"{seconds:.1f} s as {done.capture}"
        )
    elif done.n_left:
        out.print(f"captured nothing new: this part of {done.capture} is complete")
    else:
        out.print(f"captured nothing new: {done.capture} is complete ({done.n_skipped} shards)")
    for line in _notes(done, config):
        out.print(line, markup=False)
    return done


def _notes(done: Captured, config: Config) -> Iterator[str]:
    """Yield a line on each thing that is not as it should be, or not yet."""
    for worker in done.lost:
        yield f"worker {worker} was lost; the others did its shards"
    if done.n_left:
        yield f"{done.n_left} shards of other parts are left; this was {config.capture.shards}"
    if done.n_nonfinite:
        yield (
            f"left out {done.n_nonfinite:,} activations that are NaN or infinite; "
            "n_nonfinite in hookpoints.checks counts them by hookpoint"
        )
