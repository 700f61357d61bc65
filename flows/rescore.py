"""The rescore flow: more tokens if asked for, then only what is out of date, within the budget."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from lakeinterp import pipeline
from lakeinterp import rescore as rescoring
from lakeinterp.config import Config
from lakeinterp.lake import open_lake

from .artifacts import show_costs, show_counts, show_page, show_reasons, show_results
from .capture import capture as capture_flow
from .common import CHAT, at_work, capture_of, one, start
from .pipeline import write_report


@task(task_run_name="rescore {capture}")
def redo(config: Config, capture: str, run: str) -> dict[str, float]:
    """Do again what is out of date; a retry goes on where it stopped."""
    with at_work(run):
        done = rescoring.rescore(
            config, run=run, capture=capture, hookpoints=config.capture.hookpoints
        )
    show_reasons(done.reasons)
    show_counts("explain", dict(done.explained))
    show_counts("score", dict(done.judged))
    get_run_logger().info(
        "%s: %s; %d of %d units drawn again, explained %s, judged %s; %s",
        capture, dict(done.reasons) or "up to date", done.refreshed.n_refreshed,
        done.refreshed.n_units, dict(done.explained), dict(done.judged), done.spent,
    )  # fmt: skip
    return {
        "units refreshed": done.refreshed.n_refreshed,
        "redone": done.n_done,
        "left": done.n_left,
        "calls": done.spent.n_calls,
        "tokens": done.spent.n_tokens,
        "usd": done.spent.usd,
        "of unknown cost": done.spent.n_unknown,
    }


@flow(name="lakeinterp-rescore")
def rescore(config: Config, capture: str | None = None, more_tokens: int = 0) -> dict[str, float]:
    """Redo what more tokens, new settings or time made out of date; return what was done.

    Args:
        config: Every setting; `rescore` says what counts as out of date, and the budget.
        capture: Capture id; the only one there is if not given.
        more_tokens: Captured first, beyond what there is; 0 captures nothing.
    """
    capture, lake = capture or capture_of(config), open_lake(config)
    if more_tokens:
        pipeline.check_chat(config)  # now rather than after a capture
        capture_flow(rescoring.with_more_tokens(lake, config, capture, more_tokens))
    tags = [CHAT] if any(pipeline.needs_chat(config, s) for s in ("explain", "score")) else []
    with at_work() as run:
        # Once for all tries of the task, so that a retry has what is left.
        limited = rescoring.within_budget(lake, config)
        done: dict[str, float] = one(
            redo, limited, tags=tags, is_limited=False, capture=capture, run=run
        )
        if done["redone"]:
            show_costs(config, capture)
            show_results(config, capture)
            show_page(config, capture, one(write_report, config, capture=capture, run=run))
    return done


if __name__ == "__main__":
    start(rescore)
