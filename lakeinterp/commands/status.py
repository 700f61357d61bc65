"""`lakeinterp status`."""

from lakeinterp.commands.common import Common, console

_DEFAULT = Common()


def status(common: Common = _DEFAULT) -> None:
    """Show what the lake holds and what is unfinished."""
    from lakeinterp.report.status import status as shown

    config = common.load()
    console().print(shown(common.open(config), config))
