"""`lakeinterp status`."""

from lakeinterp.commands.common import Common, console

_DEFAULT = Common()


def status(common: Common = _DEFAULT) -> None:
    """Show what the lake holds and what is unfinished."""
    import lakeinterp
    from lakeinterp.report.status import status as shown

    console().print(shown(lakeinterp.open(common.load().lake)))
