"""`lakeinterp forget`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lakeinterp.commands.common import Common, console
from lakeinterp.errors import ConfigError

_DEFAULT = Common()


def forget(
    capture: Annotated[str, Parameter(help="The capture, as `lakeinterp status` shows it.")],
    /,
    *,
    yes: Annotated[bool, Parameter(help="Do it.", negative=(), show_default=False)] = False,
    common: Common = _DEFAULT,
) -> None:
    """Take a capture and all that was made from it out of the lake.

    Its corpus and the replies of language models stay, other captures are untouched. A capture
    that still runs ends with an error and adds nothing. `lakeinterp vacuum` frees the space.
    """
    from lakeinterp.lake import upkeep

    lake = common.open(common.load())
    if not yes:
        upkeep.require(lake, capture)
        raise ConfigError(
            f"forget: this takes {capture} with its examples, explanations and scores out of "
            f"{lake.root}; add --yes to do it"
        )
    done = upkeep.forget(lake, capture)
    tables = ", ".join(name for name, n_files in done.n_files.items() if n_files)
    console().print(f"forgot {capture}: {tables or 'nothing was left of it'}", markup=False)
