"""What `lakeinterp explain` and `lakeinterp score` share: a step over units, shown as it goes."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp.commands.common import console, counts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakeinterp.config import Config
    from lakeinterp.pipeline import Asked
    from lakeinterp.terms import Unit


@Parameter(name="*", group="Language model")
@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """Options of commands that may ask a language model."""

    budget_usd: Annotated[
        float | None,
        Parameter(
            help="Most US dollars that this lake's replies may cost in all, earlier runs counted. "
            "[setting: chat.budget_usd]"
        ),
    ] = None
    budget_tokens: Annotated[
        int | None,
        Parameter(help="Most tokens of prompts and replies in all. [setting: chat.budget_tokens]"),
    ] = None
    offline: Annotated[
        bool,
        Parameter(
            help="Answer from stored replies alone and ask nobody. [setting: chat.offline]",
            negative=(),
            show_default=False,
        ),
    ] = False

    workers: Annotated[
        int | None, Parameter(help="Processes that share the work. [setting: chat.workers]")
    ] = None

    reread: Annotated[
        bool,
        Parameter(
            help="Read the stored replies of parse_failed rows again and ask nobody. "
            "[setting: chat.reread]",
            negative=(),
            show_default=False,
        ),
    ] = False

    def values(self) -> dict[str, object]:
        """Return the settings they stand for; what was not given is None."""
        return {
            "chat.budget_usd": self.budget_usd,
            "chat.budget_tokens": self.budget_tokens,
            "chat.offline": self.offline or None,
            "chat.reread": self.reread or None,
            "chat.workers": self.workers,
        }


def ask(
    step: Callable[..., Asked],
    done_with: str,
    config: Config,
    capture: str | None,
    hookpoints: Sequence[str],
) -> int:
    """Run a step with a progress bar, say what came out, and return the exit code.

    Args:
        step: `pipeline.explain` or `pipeline.score`.
        done_with: Begins the line at the end, for example `judged with pattern`.
        config: The settings.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.

    Returns:
        3 if a row says that a call failed, else 0.
    """
    from lakeinterp import pipeline
    from lakeinterp.commands.progress import UnitProgress, count_units

    start, found, n_done = time.monotonic(), Counter[str](), 0
    n_units = count_units(config, capture, hookpoints)
    with UnitProgress(step.__name__) as bar:

        def progress(_: Unit, written: Counter[str]) -> None:
            nonlocal n_done
            n_done += 1
            found.update(written)
            bar(n_done, n_units, counts(found))

        bar(0, n_units)
        given = {"run": pipeline.new_run(), "capture": capture, "hookpoints": hookpoints}
        done = step(config, **given, progress=progress, watch=bar.watch)
    out = console()
    out.print(f"{done_with}: {counts(done.counts)} in {time.monotonic() - start:.1f} s")
    if done.calls:
        out.print(f"  {done.calls}")
    return 3 if done.n_failed else 0
