"""`lakeinterp vacuum`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lakeinterp.commands.common import Common, console, size

_DEFAULT = Common()
_SHOWN = 20


def vacuum(
    *,
    retention_hours: Annotated[
        float, Parameter(help="Leave files that were replaced or written later than this.")
    ] = 168.0,
    dry_run: Annotated[bool, Parameter(help="Only list the files.", negative=())] = False,
    common: Common = _DEFAULT,
) -> None:
    """Delete files that no commit names: replaced ones, and those of killed runs.

    The default of a week is safe while others read and write; with less, let them end first.
    Files that are not of lakeinterp's kinds stay.
    """
    from lakeinterp.lake import upkeep

    lake = common.open(common.load())
    done = upkeep.vacuum(lake, retention_hours=retention_hours, dry_run=dry_run)
    out = console()
    if not done.files:
        out.print(f"no file is dead and older than {retention_hours:g} hours")
        return
    if dry_run:
        for file in done.files[:_SHOWN]:
            out.print(file, soft_wrap=True, markup=False)
        if len(done.files) > _SHOWN:
            out.print(f"… {len(done.files) - _SHOWN:,} more")
    verb = "would delete" if dry_run else "deleted"
    out.print(f"{verb} {len(done.files):,} files, {size(done.n_bytes)}")
