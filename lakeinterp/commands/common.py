"""What every command takes, and how commands show what happens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp import config as settings
from lakeinterp import logs
from lakeinterp.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake

_LOG_WIDTH = 10_000
"""Of lines that nobody looks at on a screen: none is folded."""


@Parameter(name="*", group="Common")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    lake: Annotated[
        str | None,
        Parameter(help="Folder or URL of the lake. [default: $LAKEINTERP_LAKE or ./lake]"),
    ] = None
    config: Annotated[Path | None, Parameter(help="TOML file with settings.")] = None
    set: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            help="One setting, key=value; may be repeated. `lakeinterp config` lists them.",
            negative=(),
            consume_multiple=False,
            show_default=False,
        ),
    ] = ()
    storage_option: Annotated[
        tuple[str, ...],
        Parameter(
            name="--storage-option",
            help="One option of the object store, key=value, as AWS_ENDPOINT_URL=https://…; may be "
            "repeated. The usual environment variables count too.",
            negative=(),
            consume_multiple=False,
            show_default=False,
        ),
    ] = ()
    traceback: Annotated[
        bool,
        Parameter(help="Show where an error comes from.", negative=(), show_default=False),
    ] = False
    log_json: Annotated[
        bool,
        Parameter(
            help="Write progress, warnings and errors as JSON lines, each with the run's id.",
            negative=(),
            show_default=False,
        ),
    ] = False

    def load(self, values: Mapping[str, object] | None = None) -> Config:
        """Return the configuration: defaults, file, the command's own arguments, `--set`."""
        own: dict[str, object] = {"lake": self.lake, **(values or {})}
        for text in self.storage_option:
            name, equals, value = text.partition("=")
            if not equals:
                raise ConfigError(f"--storage-option {name}: write key=value")
            own[f"storage_options.{name.strip()}"] = value
        return settings.load(self.config, self.set, own)

    def open(self, config: Config) -> Lake:
        """Open the lake of a configuration.

        Raises:
            NotFound: there is no lake at this place.
        """
        import lakeinterp

        return lakeinterp.open(config.lake, storage_options=config.store_options())


@Parameter(name="*", group="Latents")
@dataclass(frozen=True, kw_only=True)
class LatentOptions:
    """Options of commands that work on some of a hookpoint's latents."""

    latents: Annotated[
        str | None,
        Parameter(
            help="Only these: numbers and ranges, as `0-99,512`; rare and dead ones too. "
            "[setting: sampling.latents]"
        ),
    ] = None
    where: Annotated[
        str | None,
        Parameter(
            help="Only those for which this SQL condition on the table `latents` is true, as "
            '"density BETWEEN 1e-4 AND 1e-2". [setting: sampling.where]'
        ),
    ] = None
    max_latents: Annotated[
        int | None,
        Parameter(
            help="At most this many a hookpoint, a random choice by `sampling.seed`. "
            "[setting: sampling.max_latents]"
        ),
    ] = None

    def values(self) -> dict[str, object]:
        """Return the settings they stand for; what was not given is None."""
        return {
            "sampling.latents": self.latents,
            "sampling.where": self.where,
            "sampling.max_latents": self.max_latents,
        }


CaptureOption = Annotated[
    str | None, Parameter(name="--capture", help="Which capture; needed if there are several.")
]
HookpointsOption = Annotated[
    tuple[str, ...],
    Parameter(
        name="--hookpoints",
        help="Only these hookpoints.",
        consume_multiple=True,
        negative=(),
    ),
]


def console(*, stderr: bool = False) -> Console:
    """Return a console for people: standard output, or standard error for progress."""
    from rich.console import Console

    if stderr and logs.is_json():
        lines = logs.lines("lakeinterp.progress")
        return Console(file=lines, highlight=False, soft_wrap=True, width=_LOG_WIDTH)

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            """Let `lakeinterp.cli.run` end quietly; rich itself would leave with exit code 1."""
            raise BrokenPipeError

    return _Console(stderr=stderr, highlight=False, soft_wrap=False)


_EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "nnsight", "accelerate", "datasets"), "capture"),
    **dict.fromkeys(("safetensors", "tokenizers", "huggingface_hub"), "capture"),
    **dict.fromkeys(("sentence_transformers", "faiss"), "embed"),
    **dict.fromkeys(("starlette", "uvicorn"), "web"),
    "litellm": "llm",
    "prefect": "flows",
    "s3fs": "s3",
}
"""Extra of each package that a command may lack."""


def fault(exc: Exception) -> str | None:
    """Return a line on what a disk, an object store or a damaged file did, None for anything else.

    What rooms did not translate themselves: an exception while rows are fetched, for example, or
    a package that an extra brings and that is not installed.
    """
    from lakeinterp.lake import faults

    if isinstance(exc, ModuleNotFoundError):
        package = (exc.name or "").partition(".")[0]
        extra = _EXTRAS.get(package)
        return str(MissingExtra("this command", extra, package)) if extra else None
    return str(faults.translate(exc)) if faults.is_foreign(exc) else None


def counts(found: Mapping[str, int]) -> str:
    """Return counts by status as text, `ok` first: `120 ok, 3 parse_failed`."""
    order: Iterable[str] = sorted(found, key=lambda s: (s != "ok", s))
    return ", ".join(f"{found[s]:,} {s}" for s in order if found[s]) or "nothing to do"


def size(n_bytes: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"
