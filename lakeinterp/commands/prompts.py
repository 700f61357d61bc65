"""`lakeinterp prompts`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp import prompts as files
from lakeinterp.commands.common import Common, console
from lakeinterp.commands.explain import PromptsOption, with_prompts
from lakeinterp.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from lakeinterp.config import Config

_DEFAULT = Common()


def prompts(
    name: Annotated[
        str | None, Parameter(help="Print this one, for example explain/default_system.")
    ] = None,
    /,
    *,
    copy: Annotated[
        Path | None,
        Parameter(help="Write the prompts into this folder, to be edited; none is overwritten."),
    ] = None,
    prompts: PromptsOption = None,
    common: Common = _DEFAULT,
) -> None:
    """List the prompts, print one, or copy them to a folder of your own.

    Rows carry the digest of the prompts they were made with: what is edited makes new rows.
    """
    config = common.load(with_prompts(prompts))
    if copy is not None:
        _copy(config, name, copy)
    elif name is not None:
        console().out(_load(config, name).text, highlight=False)
    else:
        _list(config)


def _load(config: Config, name: str) -> files.Prompt:
    return files.load(name, _folder(config, name))


def _folder(config: Config, name: str) -> str | None:
    return config.score.prompts if name.startswith("score/") else config.explain.prompts


def _list(config: Config) -> None:
    loaded = [_load(config, name) for name in files.shipped()]
    width = max(len(prompt.name) for prompt in loaded)
    out = console()
    for prompt in loaded:
        where = "shipped" if prompt.is_shipped else str(prompt.path)
        slots = " ".join(f"${slot}" for slot in sorted(prompt.slots))
        line = f"{prompt.name:<{width}}  {prompt.digest}  {where}  {slots}"
        out.print(line.rstrip(), markup=False, soft_wrap=True)
    for folder in sorted({f for f in (config.explain.prompts, config.score.prompts) if f}):
        for stray in files.strays(folder):
            out.print(f"{stray} is no prompt of lakeinterp", markup=False, soft_wrap=True)


def _copy(config: Config, name: str | None, folder: Path) -> None:
    """Write prompts below a folder.

    Raises:
        ConfigError: one is there already.
        StorageError: the folder cannot be written to.
    """
    loaded = [_load(config, one) for one in ([name] if name else files.shipped())]
    places = [folder / f"{prompt.name}.md" for prompt in loaded]
    if held := [place for place in places if place.exists()]:
        raise ConfigError(f"--copy: {held[0]} is there already; choose another folder")
    try:
        for prompt, place in zip(loaded, places, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(prompt.text + "\n", encoding="utf-8")
    except OSError as exc:
        raise StorageError(f"{folder} cannot be written to: {exc.strerror or exc}") from exc
    console().print(
        f"{len(loaded)} written below {folder}; use them with --prompts {folder}",
        markup=False,
        soft_wrap=True,
    )
