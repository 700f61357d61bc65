"""`lakeinterp compact`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, console, size

if TYPE_CHECKING:
    from lakeinterp.lake.compaction import Compacted

_DEFAULT = Common()


def compact(
    *,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    common: Common = _DEFAULT,
) -> None:
    """Merge the lake's many small files into few; no row changes.

    Safe while others read and write. Readers are faster after it; `lakeinterp vacuum` deletes the
    files that were replaced.
    """
    from lakeinterp.commands.progress import UnitProgress
    from lakeinterp.lake.compaction import compact as compact_now

    lake = common.open(common.load())
    start = time.monotonic()
    with UnitProgress("compact") as bar:
        done = compact_now(lake, capture, hookpoints, progress=bar)
    console().print(_line(done, time.monotonic() - start))


def _line(done: Compacted, seconds: float) -> str:
    if done.n_files_after == done.n_files_before:
        return f"compacted nothing: {done.n_files_before:,} files are as few as is worth the work"
    line = f"compacted {done.n_files_before:,} files to {done.n_files_after:,} in {seconds:.1f} s"
    if done.n_rows:
        line += (
            f"; {done.n_rows:,} activations, "
            f"{size(done.n_bytes_read)} to {size(done.n_bytes_written)}"
        )
    return line
