"""Progress of long work on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from lakeinterp.commands.common import console
from lakeinterp.commands.outlook import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from rich.console import RenderableType
    from rich.progress import Progress, ProgressColumn, Task
    from rich.text import Text

    from lakeinterp.chat import ChatStats
    from lakeinterp.config import Config

_LINE_EVERY_S = 15.0
_RATE_OVER_S = 30.0


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
    """Units done of all, what they came to, and what a language model's calls come to.

    Args:
        name: Of the step.
        of: What is counted.
    """

    def __init__(self, name: str, of: str = "units") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

        self._name, self._of = name, of
        self._console = console(stderr=True)
        self._done = self._total = 0
        self._stats: ChatStats | None = None
        self._start = time.monotonic()
        self._counted: deque[tuple[float, int, int]] = deque([(self._start, 0, 0)])
        """When, and calls and requests until then, of the last half minute."""
        self._of_done = 0
        """Requests of the units that are done."""
        self._bar = _with_line(
            self._line,
            TextColumn(f"{name:7}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(f"{of} {{task.fields[note]}}"),
            _column(self._left),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=None, note="")
        self._ended = threading.Event()
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Self:
        if not self._console.is_terminal:
            self._teller.start()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        super().__exit__(kind, error, trace)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` units are finished."""
        if self._stats is not None and done > self._done:
            self._of_done = self._stats.n_asked
        self._done, self._total = done, total
        self._bar.update(self._task, completed=done, total=total, note=note)

    def watch(self, stats: ChatStats) -> None:
        """Show what a chat does from now on."""
        self._stats = stats

    def _line(self) -> str:
        """Return calls, tokens, cost, failures, stored replies and calls a second."""
        if self._stats is None:
            return ""
        stats, now = self._stats, time.monotonic()
        self._counted.append((now, stats.n_calls, stats.n_asked))
        while len(self._counted) > 2 and self._counted[1][0] < now - _RATE_OVER_S:
            self._counted.popleft()
        then, before, _ = self._counted[0]
        rate = (stats.n_calls - before) / max(1.0, now - then)
        n_stored = stats.n_stored + stats.n_joined
        return (
            f"{stats.n_calls:,} calls ({rate:.1f}/s), {n_stored:,} from the lake, "
            f"{stats.n_tokens:,} tokens, {stats.cost}, {sum(stats.failures.values()):,} failed"
        )

    def _left(self) -> str:
        """Return the time left in words: known once a unit is done, by what the others ask."""
        if not 0 < self._done < self._total:
            return ""
        now, n_left = time.monotonic(), self._total - self._done
        left_s = (now - self._start) / self._done * n_left
        if self._stats is not None and self._of_done:
            then, _, before = self._counted[0]
            of_each, n_asked = self._of_done / self._done, self._stats.n_asked
            of_this = max(0.0, of_each - (n_asked - self._of_done))
            rate = (n_asked - before) / max(1.0, now - then)
            left_s = (of_each * (n_left - 1) + of_this) / max(rate, 1e-3)
        return f"about {duration(left_s)} left" if left_s else ""

    def _tell(self) -> None:
        """Print a line now and then where there is no terminal to draw a bar on."""
        while not self._ended.wait(_LINE_EVERY_S):
            done = f"{self._name} {self._done:,} of {self._total:,} {self._of}"
            said = ", ".join(filter(None, [done, self._line(), self._left()]))
            self._console.print(said, markup=False, soft_wrap=True)


def _column(said: Callable[[], str]) -> ProgressColumn:
    """Return a column that shows what a function returns."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class _Said(ProgressColumn):
        def render(self, task: Task) -> Text:  # noqa: ARG002 - one for all
            return Text(said())

    return _Said()


def _with_line(line: Callable[[], str], *columns: ProgressColumn, **options: Any) -> Progress:
    """Return a progress display with a line of text below its bars."""
    from rich.progress import Progress
    from rich.text import Text

    class _Progress(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if said := line():
                yield Text(f"  {said}")

    return _Progress(*columns, **options)


def count_units(config: Config, capture: str | None, hookpoints: Sequence[str]) -> int:
    """Return how many units a step goes over.

    Raises:
        NotFound: there is no such capture or hookpoint.
    """
    from lakeinterp.lake import open_lake, units

    lake = open_lake(config)
    return len(units.units(lake, str(lake.capture(capture)["capture"]), hookpoints))
