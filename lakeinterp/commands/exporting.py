"""`lakeinterp export`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lakeinterp.bridges import EXPORTS, listed
from lakeinterp.commands.common import (
    CaptureOption,
    Common,
    HookpointsOption,
    LatentOptions,
    console,
)
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from lakeinterp.bridges.base import Export, Exported, Names

_DEFAULT = Common()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Shown:
    """Options of what is written of each latent."""

    explainer: Annotated[
        str | None,
        Parameter(help="Only explanations by this explainer; needed if there are several."),
    ] = None
    n_logits: Annotated[
        int,
        Parameter(
            help="Output tokens that a latent raises and lowers, of each kind, by the captured "
            "model; 0 does without the model."
        ),
    ] = 10
    overwrite: Annotated[
        bool, Parameter(help="Replace what an earlier export wrote to the folder.", negative=())
    ] = False


@Parameter(name="*", group="Cache of delphi")
@dataclass(frozen=True, kw_only=True)
class Cache:
    """Options of caches alone."""

    n_splits: Annotated[int, Parameter(help="Files a hookpoint is cut into.")] = 5
    dtype: Annotated[
        Literal["float16", "bfloat16", "float32"],
        Parameter(help="Precision of the activations; delphi writes and reads float16."),
    ] = "float16"


@Parameter(name="*", group="Neuronpedia, circuit-tracer and neuron records")
@dataclass(frozen=True, kw_only=True)
class Named:
    """What the other side calls things."""

    model_id: Annotated[
        str | None, Parameter(help="Model id. [default: the last part of the model's name]")
    ] = None
    source_set: Annotated[
        str | None,
        Parameter(help="Source set or scan, without the layer. [default: the capture's name]"),
    ] = None
    layer: Annotated[
        int | None, Parameter(help="Layer. [default: the first number in the hookpoint's name]")
    ] = None
    release: Annotated[str | None, Parameter(help="Release id. [default: the source set]")] = None
    creator: Annotated[str, Parameter(help="Who publishes it.")] = ""
    creator_id: Annotated[
        str | None, Parameter(help="Account of the server. [default: that of imported data]")
    ] = None
    explanation_method: Annotated[
        str | None, Parameter(help="How explanations were made; a name that the server knows.")
    ] = None
    explanation_model: Annotated[
        str | None, Parameter(help="Model that wrote them; a name that the server knows.")
    ] = None

    def names(self) -> Names:
        """Return them as `Export` takes them."""
        from lakeinterp.bridges.base import Names

        account = {"creator_id": self.creator_id} if self.creator_id else {}
        return Names(
            model=self.model_id, source_set=self.source_set, layer=self.layer,
            release=self.release, creator=self.creator, method=self.explanation_method,
            explanation_model=self.explanation_model, **account,
        )  # fmt: skip


_ALL, _SHOWN, _CACHE, _NAMED = LatentOptions(), Shown(), Cache(), Named()


def export(
    format: Annotated[str, Parameter(help=f"What is written. {listed(EXPORTS)}.")],
    path: Annotated[Path, Parameter(help="Folder to write to.")],
    /,
    *,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    shown: Shown = _SHOWN,
    chosen: LatentOptions = _ALL,
    cache: Cache = _CACHE,
    named: Named = _NAMED,
    common: Common = _DEFAULT,
) -> None:
    """Write what the lake holds in another tool's format.

    The folder appears whole at the end. What is there already is not touched without --overwrite.
    """
    from lakeinterp import bridges
    from lakeinterp.bridges.base import Export
    from lakeinterp.commands.progress import UnitProgress

    write = bridges.exporter(format)
    if format == "delphi" and any(value is not None for value in chosen.values().values()):
        raise ConfigError("delphi: a cache holds all latents of a hookpoint; leave out the choice")
    config = common.load(chosen.values())
    lake = common.open(config)
    options = Export(
        path=path, capture=capture, hookpoints=hookpoints, config=config, names=named.names(),
        **asdict(shown), **asdict(cache),
    )  # fmt: skip
    with UnitProgress("export", "pieces") as progress:
        done = write(lake, options, progress=progress)
    for line in _lines(done, options):
        console().print(line, markup=False)


def _lines(done: Exported, options: Export) -> tuple[str, ...]:
    if done.said:
        return done.said
    line = (
        f"exported {done.n_rows:,} activations of {', '.join(done.hookpoints)} to {options.path} "
    )
    line += f"in {done.n_files} files"
    if done.n_rounded:
        line += f"; {done.n_rounded:,} values were rounded to {options.dtype}"
    return (line,)
