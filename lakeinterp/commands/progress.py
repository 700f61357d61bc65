"""Progress of long work on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from lakeinterp.commands.common import console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.progress import Progress

    from lakeinterp.config import Config

_LINE_EVERY_S = 15.0


class _Shown:
    """A bar that is on the screen while the block runs."""

    _bar: Progress

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


class CaptureProgress(_Shown):
    """Tokens/s, rows/s, bytes a row and the time left of a capture."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = console(stderr=True)
        self._bar = Progress(
            TextColumn("capture"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("capture", total=None, rates="")
        self._tokens = self._rows = self._bytes = self._total = 0
        self._start = self._last_line = time.monotonic()

    def __call__(self, *, tokens: int = 0, total: int = 0, rows: int = 0, n_bytes: int = 0) -> None:
        """Add what was done; see `lakeinterp.capture.run.Progress`."""
        self._tokens += tokens
        self._rows += rows
        self._bytes += n_bytes
        self._total = total or self._total
        rates = self._rates()
        self._bar.update(self._task, completed=self._tokens, total=self._total or None, rates=rates)
        if not self._console.is_terminal and time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            self._console.print(f"capture {self._tokens:,} of {self._total:,} tokens, {rates}")

    def _rates(self) -> str:
        seconds = max(1e-3, time.monotonic() - self._start)
        shown = f"{self._tokens / seconds:,.0f} tokens/s"
        if self._rows:
            shown += f", {self._rows / seconds:,.0f} rows/s, {self._bytes / self._rows:.1f} B/row"
        return shown


class UnitProgress(_Shown):
    """Units done of all, and what they came to."""

    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Left

        shown = console(stderr=True)
        self._bar = Progress(
            TextColumn(f"{name:7}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("units {task.fields[note]}"),
            Left(compact=True),
            console=shown,
            disable=not shown.is_terminal,
        )
        self._task = self._bar.add_task(name, total=None, note="")

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` units are finished."""
        self._bar.update(self._task, completed=done, total=total, note=note)


def count_units(config: Config, capture: str | None, hookpoints: Sequence[str]) -> int:
    """Return how many units a step goes over.

    Raises:
        NotFound: there is no such capture or hookpoint.
    """
    from lakeinterp.lake import Lake, units

    lake = Lake(config.lake, storage_options=config.store_options())
    return len(units.units(lake, str(lake.capture(capture)["capture"]), hookpoints))
