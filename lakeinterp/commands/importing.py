"""`lakeinterp import`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp.bridges import IMPORTS, listed
from lakeinterp.commands.common import Common, console

if TYPE_CHECKING:
    from lakeinterp.bridges.base import Import, Imported, Importer
    from lakeinterp.config import Config

_DEFAULT = Common()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Unsaid:
    """Options that say what the files do not."""

    hookpoints: Annotated[
        tuple[str, ...],
        Parameter(
            help="Only these hookpoints; of dashboards and Neuronpedia's explanations the one that "
            "their source is.",
            consume_multiple=True,
            negative=(),
        ),
    ] = ()
    name: Annotated[
        str | None,
        Parameter(
            help="Name of the capture. What is said of latents may go to one that the lake holds: "
            "there it stands beside what lakeinterp says."
        ),
    ] = None
    model: Annotated[
        str | None,
        Parameter(
            help="Folder or hub id whose tokenizer made the tokens, if not the one named; of "
            "explanations the model to take."
        ),
    ] = None
    n_latents: Annotated[
        int | None, Parameter(help="Width of the coder, if the files do not say it.")
    ] = None

    def values(self) -> dict[str, object]:
        """Return them as `Import` takes them."""
        return {
            "hookpoints": self.hookpoints, "name": self.name, "model": self.model,
            "n_latents": self.n_latents,
        }  # fmt: skip


@Parameter(name="*", group="Cache of delphi")
@dataclass(frozen=True, kw_only=True)
class Cache:
    """Options of caches alone."""

    without_text: Annotated[
        bool,
        Parameter(
            help="Do without the tokenizer: examples then have no text.",
            negative=(),
            show_default=False,
        ),
    ] = False
    tokens: Annotated[
        str | None,
        Parameter(help="Sequences of token ids (.npy, Parquet, a cache), if the files hold none."),
    ] = None
    allow_nonfinite: Annotated[
        bool,
        Parameter(
            help="Leave NaN and infinite activations out instead of stopping.",
            negative=(),
            show_default=False,
        ),
    ] = False

    def values(self) -> dict[str, object]:
        """Return them as `Import` takes them."""
        return {
            "without_text": self.without_text, "tokens": self.tokens,
            "allow_nonfinite": self.allow_nonfinite,
        }  # fmt: skip


_NOTHING, _NO_CACHE = Unsaid(), Cache()


def import_(
    format: Annotated[str, Parameter(help=f"What is read. {listed(IMPORTS)}.")],
    path: Annotated[Path, Parameter(help="Its file or folder.")],
    /,
    *,
    unsaid: Unsaid = _NOTHING,
    cache: Cache = _NO_CACHE,
    common: Common = _DEFAULT,
) -> None:
    """Read what another tool has stored into the lake.

    The same command again adds nothing, and completes what was killed.
    """
    from lakeinterp import bridges

    read = bridges.importer(format)
    config = common.load()
    options = _options(path, unsaid, cache, config)
    done = _read(read, options, config)
    for line in _lines(done):
        console().print(line, markup=False)


def _options(path: Path, unsaid: Unsaid, cache: Cache, config: Config) -> Import:
    from lakeinterp.bridges.base import Import

    given: dict[str, object] = {**unsaid.values(), **cache.values()}
    return Import(path=path, config=config, **given)  # type: ignore[arg-type]


def _read(read: Importer, options: Import, config: Config) -> Imported:
    from lakeinterp.commands.progress import UnitProgress
    from lakeinterp.lake import open_lake

    lake = open_lake(config)
    with UnitProgress("import", "pieces") as progress:
        return read(lake, options, progress=progress)


def _lines(done: Imported) -> tuple[str, ...]:
    if done.said:
        return done.said
    line = f"imported {done.n_rows:,} activations of {', '.join(done.hookpoints)} on "
    line += f"{done.n_sequences:,} sequences as {done.capture}"
    if done.n_dropped:
        line += f"; left out {done.n_dropped:,} that are zero or not finite"
    return (line if done.is_new else f"imported nothing new: {done.capture} is complete",)
