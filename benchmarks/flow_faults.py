"""What a deployed flow comes to when something fails: real Prefect servers, workers and signals.

Each fault breaks a run of the explain and score deployments on a real server while a language
model (on loopback, answering by rules, slowly) is being asked. Then the same deployment is run
again, and the lake must hold, row for row, what undisturbed plain functions write.

    python benchmarks/flow_faults.py                   # every fault, some minutes
    python benchmarks/flow_faults.py cancelled timeout # some
    python benchmarks/flow_faults.py --record FILE.md
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from lakeinterp import pipeline, steps
from lakeinterp.config import load
from lakeinterp.lake import Lake
from tests import tiny
from tests.flows.site import ROOT, Site, alive, end, family, until
from tests.rule_driven import answer
from tests.wire import Answer, Wire

EXPLAIN, SCORE = "lakeinterp-explain/on-demand", "lakeinterp-score/on-demand"
RESULTS = (
    "SELECT * EXCLUDE (run, created_at) FROM explanations ORDER BY ALL",
    "SELECT * FROM judgements ORDER BY ALL",
    "SELECT * EXCLUDE (run, created_at) FROM scores ORDER BY ALL",
)
N_CONCURRENT = 2
DELAY_S = 2.0
"""Of every answer, so that there is a middle to be broken in."""
LONG_S = 90.0
"""The same where a run has to last longer than its hold on the deployment's one place: 300 s."""
HEARTBEAT_S, LOST_S = 30, 90
"""Of runs here, and after which one without is lost; `automations.yaml` says 600."""


@dataclass
class Bench:
    """What every fault works with."""

    site: Site
    wire: Wire
    settings: dict[str, Any]
    expected: list[list[tuple[Any, ...]]]
    n_expected: int
    """Requests of an undisturbed run."""

    def fresh(self) -> None:
        """Put a lake in place that is sampled and nothing more."""
        shutil.rmtree(self.site.folder / "lake", ignore_errors=True)
        shutil.copytree(self.site.folder / "sampled", self.site.folder / "lake")
        self.wire.requests.clear()

    def config(self, **more: Any) -> dict[str, Any]:
        """Return the parameter of a run."""
        return load(values={**self.settings, **more}).model_dump(mode="json")

    def in_the_middle(self, n: int = 3) -> None:
        """Wait until some requests are under way."""
        until(lambda: self.wire.n_requests >= n, 120, "nothing is asked")

    def completed(self, deployment: str) -> None:
        """Run a deployment to a good end."""
        state = self.site.ended(self.site.begin(deployment, config=self.config()))
        assert state["type"] == "COMPLETED", state

    def whole(self) -> str:
        """Run both deployments again and compare; say what was asked more than once."""
        self.completed(EXPLAIN)
        self.completed(SCORE)
        assert contents(self.settings["lake"]) == self.expected, "the lake differs"
        n_more = self.wire.n_requests - self.n_expected
        assert 0 <= n_more <= N_CONCURRENT, f"{n_more} requests more than undisturbed"
        return f"rerun: Completed, rows equal, {n_more} requests asked again"


def contents(lake: str) -> list[list[tuple[Any, ...]]]:
    """Return the rows that explaining and scoring wrote."""
    with Lake(lake).connect() as con:
        return [con.execute(query).fetchall() for query in RESULTS]


def cancelled(bench: Bench) -> str:
    """Cancelled in the middle of a unit."""
    run = bench.site.begin(EXPLAIN, config=bench.config())
    bench.in_the_middle()
    began = [p.pid for p in family(bench.site.worker)]
    start = time.monotonic()
    bench.site.cancel(run)
    state = bench.site.ended(run)
    seconds = time.monotonic() - start
    until(lambda: not list(alive(began)), 60, "processes are left")
    assert state["type"] == "CANCELLED", state
    return f"{state['name']} after {seconds:.1f} s, no process left; {bench.whole()}"


def flow_killed(bench: Bench) -> str:
    """The process of the flow is killed (-9)."""
    run = bench.site.begin(EXPLAIN, config=bench.config())
    bench.in_the_middle()
    for process in family(bench.site.worker):
        process.kill()
    state = bench.site.ended(run)
    return f"{state['name']}: {line_of(state)}; {bench.whole()}"


def worker_killed(bench: Bench) -> str:
    """The worker and what it runs are killed (-9), another is started."""
    run = bench.site.begin(EXPLAIN, config=bench.config())
    bench.in_the_middle()
    end(bench.site.worker)
    bench.site.start_worker()
    state = bench.site.state(run)
    said = f"{state['name']} until told otherwise"
    crashed = {"state": {"type": "CRASHED"}, "force": True}
    bench.site.ask("POST", f"/flow_runs/{run}/set_state", crashed)
    return f"{said}; {bench.whole()}"


def worker_lost(bench: Bench) -> str:
    """The same, and `automations.yaml` is there; a second run is asked for at once."""
    text = (ROOT / "automations.yaml").read_text(encoding="utf-8")
    file = bench.site.folder / "automations.yaml"
    file.write_text(text.replace("within: 600", f"within: {LOST_S}"), encoding="utf-8")
    bench.site.run("automation", "create", "--from-file", file.name)
    run = bench.site.begin(EXPLAIN, config=bench.config())
    bench.in_the_middle()
    end(bench.site.worker)
    start = time.monotonic()
    bench.site.start_worker()
    second = bench.site.begin(EXPLAIN, config=bench.config())
    name = bench.site.ended(run)["name"]
    said = f"{name} after {time.monotonic() - start:.0f} s without a heartbeat"
    return f"{said}; the second {bench.site.ended(second)['name']}; {bench.whole()}"


def server_restarted(bench: Bench) -> str:
    """The server is killed (-9) in the middle and started again 5 s later."""
    return _restarted(bench, DELAY_S)


def server_restarted_long(bench: Bench) -> str:
    """The same, and the run goes on for minutes."""
    return _restarted(bench, LONG_S)


def _restarted(bench: Bench, delay_s: float) -> str:
    PACE.append(delay_s)
    run = bench.site.begin(EXPLAIN, config=bench.config())
    bench.in_the_middle(N_CONCURRENT)
    end(bench.site.server)
    time.sleep(5)
    bench.site.start_server()
    start = time.monotonic()
    state = bench.site.ended(run, 900)
    PACE.pop()
    went_on = f"went on for {time.monotonic() - start:.0f} s"
    return f"{state['name']}: {line_of(state)}, {went_on}; {bench.whole()}"


def two_at_once(bench: Bench) -> str:
    """Two runs of one deployment are asked for at once."""
    runs = [bench.site.begin(EXPLAIN, config=bench.config()) for _ in range(2)]
    bench.in_the_middle()
    states = sorted(bench.site.state(run)["name"] for run in runs)
    ended = [bench.site.ended(run)["name"] for run in runs]
    return f"in the middle {states}, in the end {ended}; {bench.whole()}"


def two_beside(bench: Bench) -> str:
    """Two flows that know nothing of each other do the same units at once."""
    command = [sys.executable, "-m", "flows.explain", "--config", "lakeinterp.toml"]
    both = [bench.site.start(f"beside{i}", command) for i in range(2)]
    codes = [process.wait(300) for process in both]
    return f"exit codes {codes}; {bench.whole()}"


def timeout(bench: Bench) -> str:
    """Each task is stopped after 5 s and tried again."""
    more = {"flows.timeout_s": 5.0, "flows.retries": 9, "flows.retry_waits_s": [0.1]}
    slow = {**more, "chat.concurrency": N_CONCURRENT}
    run = bench.site.begin(EXPLAIN, config=bench.config(**slow))
    state = bench.site.ended(run, 300)
    timed = [r for r in bench.site.rows("task_runs") if r["flow_run_id"] == run]
    n_runs = sum(r["run_count"] for r in timed)
    return f"{state['name']} in {n_runs} runs of {len(timed)} tasks; {bench.whole()}"


def timeout_without_retry(bench: Bench) -> str:
    """Each task is stopped after 3 s and not tried again."""
    once = {"flows.timeout_s": 3.0, "flows.retries": 0}
    run = bench.site.begin(EXPLAIN, config=bench.config(**once))
    state = bench.site.ended(run, 300)
    return f"{state['name']}: {line_of(state)}; {bench.whole()}"


def server_busy(bench: Bench) -> str:
    """Another process holds the server's SQLite file locked for 15 s."""
    run = bench.site.begin(EXPLAIN, config=bench.config())
    bench.in_the_middle()
    with held(bench.site.folder / "home" / "prefect.db"):
        time.sleep(15)
    state = bench.site.ended(run)
    return f"{state['name']}: {line_of(state)}; {bench.whole()}"


def journal_busy(bench: Bench) -> str:
    """Another process holds the journal of replies locked for 4 s."""
    run = bench.site.begin(EXPLAIN, config=bench.config())
    bench.in_the_middle()
    files = [p for p in (bench.site.folder / "lake").rglob("*") if p.suffix in {".db", ".sqlite"}]
    for file in files:
        with held(file):
            time.sleep(4)
    state = bench.site.ended(run)
    return f"{state['name']} ({len(files)} files held): {line_of(state)}; {bench.whole()}"


class held:
    """Hold a SQLite file in an exclusive transaction."""

    def __init__(self, file: Path) -> None:
        self._con = sqlite3.connect(file, timeout=30, isolation_level=None)

    def __enter__(self) -> None:
        self._con.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._con.execute("ROLLBACK")
        self._con.close()


def line_of(state: dict[str, Any]) -> str:
    """Return what a state says."""
    return " ".join((state["message"] or "no message").split())[:200]


FAULTS: dict[str, Callable[[Bench], str]] = {
    fault.__name__: fault
    for fault in (
        cancelled, flow_killed, worker_killed, worker_lost, server_restarted,
        server_restarted_long, two_at_once, two_beside, timeout, timeout_without_retry,
        server_busy, journal_busy,
    )
}  # fmt: skip


def prepared(folder: Path, wire: Wire) -> tuple[dict[str, Any], list[list[tuple[Any, ...]]], int]:
    """Make a sampled lake and what undisturbed functions make of it."""
    deployment = wire.deployment(input_cost_per_token=1e-6, output_cost_per_token=1e-6)
    settings = tiny.settings(
        folder,
        **{
            "capture.name": "tiny", "capture.n_buckets": 4, "explain.explainer": "default",
            "score.scorers": ["detection"], "score.n_borrowed": 1, "score.null_share": 0.5,
            "sampling.n_score": 10, "sampling.n_random": 10, "chat.concurrency": N_CONCURRENT,
            "chat.explainer.deployments": [deployment.model_dump(mode="json", exclude_none=True)],
        },
    )  # fmt: skip
    config = load(values=settings)
    steps.capture(config)
    steps.sample(config)
    shutil.copytree(folder / "lake", folder / "sampled")
    pipeline.explain(config, run="plain")
    pipeline.score(config, run="plain")
    return settings, contents(settings["lake"]), wire.n_requests


def slowly(body: dict[str, Any]) -> Answer:
    """Answer by rules, after a while."""
    return Answer(text=answer(body), delay_s=PACE[-1])


PACE = [0.0]
"""Seconds of an answer; the last one counts."""


def main() -> None:
    """Run faults and print or record what they came to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("faults", nargs="*", choices=[[], *FAULTS], default=[])
    parser.add_argument("--record", type=Path)
    chosen = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as name, Wire(slowly) as wire:
        folder = Path(name)
        settings, expected, n_expected = prepared(folder, wire)
        PACE.append(DELAY_S)
        os.environ.update({"PREFECT_HOME": str(folder / "home")})
        site = Site(folder, settings)
        site.environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = str(HEARTBEAT_S)
        with site:
            site.deploy()
            site.start_worker()
            bench = Bench(site, wire, settings, expected, n_expected)
            for fault in chosen.faults or FAULTS:
                bench.fresh()
                start = time.monotonic()
                try:
                    said = FAULTS[fault](bench)
                except (
                    AssertionError,
                    OSError,
                    httpx.HTTPError,
                    subprocess.SubprocessError,
                ) as exc:
                    said = f"NOT AS WANTED: {exc}"
                seconds = time.monotonic() - start
                lines.append(f"| {FAULTS[fault].__doc__} | {said} | {seconds:.0f} |")
                print(lines[-1], flush=True)
    if chosen.record:
        chosen.record.write_text(recorded(lines), encoding="utf-8")


def recorded(lines: list[str]) -> str:
    """Return the record."""
    return "\n".join(
        ["# Faults of deployed flows", "", "`python benchmarks/flow_faults.py --record FILE`", "",
         "| fault | what came of it | s |", "|---|---|---|", *lines, ""]
    )  # fmt: skip


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
