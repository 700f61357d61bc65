"""The rescore flow: more tokens if asked for, then only what is out of date, within the budget."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp import pipeline
from lakeinterp import rescore as rescoring
from lakeinterp.config import Config
from lakeinterp.lake import open_lake, units

from .artifacts import show_counts, show_results
from .capture import capture as capture_flow
from .common import CHAT, at_work, capture_of, one, start


@task(task_run_name="rescore {capture}", tags=["lakeinterp-rescore"])
def redo(config: Config, capture: str, run: str) -> dict[str, float]:
    """Do again what is out of date; a retry goes on where it stopped."""
    with at_work(run):
        done = rescoring.rescore(
            config, run=run, capture=capture, hookpoints=config.capture.hookpoints
        )
    show_counts("explain", dict(done.explained))
    show_counts("score", dict(done.judged))
    get_run_logger().info("%s: %s; %s", capture, dict(done.reasons) or "up to date", done.spent)
    return {
        "units refreshed": done.refreshed.n_refreshed,
        "redone": done.n_done,
        "left": done.n_left,
        "calls": done.spent.n_calls,
        "tokens": done.spent.n_tokens,
        "usd": done.spent.usd,
    }


@flow(name="lakeinterp-rescore")
def rescore(config: Config, capture: str | None = None, more_tokens: int = 0) -> dict[str, float]:
    """Redo what more tokens, new settings or time made out of date; return what was done.

    Args:
        config: Every setting; `rescore` says what counts as out of date, and the budget.
        capture: Capture id; the only one there is if not given.
        more_tokens: Captured first, beyond what there is; 0 captures nothing.
    """
    capture = capture or capture_of(config)
    if more_tokens:
        capture_flow(grown(config, capture, more_tokens))
    tags = [CHAT] if any(pipeline.needs_chat(config, s) for s in ("explain", "score")) else []
    with at_work() as run:
        done: dict[str, float] = one(redo, config, tags=tags, capture=capture, run=run)
    if done["redone"]:
        show_results(config, capture)
    return done


def grown(config: Config, capture: str, more_tokens: int) -> Config:
    """Return the settings that capture so many tokens more than there are."""
    lake = open_lake(config)
    row = lake.capture(capture)
    n_tokens = units.captured_sequences(lake, capture) * int(row["context_tokens"]) + more_tokens
    update = {"name": capture, "n_tokens": n_tokens}
    return config.model_copy(update={"capture": config.capture.model_copy(update=update)})


if __name__ == "__main__":
    start(rescore)
