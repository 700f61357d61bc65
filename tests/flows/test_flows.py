"""The flows on a real Prefect server of the test's own: same lake as the plain functions."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lakeinterp import steps
from lakeinterp.config import Config, load
from lakeinterp.errors import ConfigError
from lakeinterp.lake import Lake
from tests import tiny
from tests.chat import test_served
from tests.planted import planted_lake
from tests.wire import Answer, Wire

pytestmark = [pytest.mark.flow, pytest.mark.slow]

RESULTS = (
    "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL",
    "SELECT * FROM latents ORDER BY ALL",
    "SELECT * FROM outputs ORDER BY ALL",
    "SELECT * FROM examples ORDER BY ALL",
    "SELECT * EXCLUDE (run, created_at) FROM explanations ORDER BY ALL",
    "SELECT * FROM judgements ORDER BY ALL",
    "SELECT * EXCLUDE (run, created_at) FROM scores ORDER BY ALL",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One ephemeral server for this file; the environment is as the other fixtures leave it."""
    from prefect.testing.utilities import prefect_test_harness

    patch = pytest.MonkeyPatch()
    patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
    patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    patch.setenv("DO_NOT_TRACK", "1")
    patch.setenv("PREFECT_SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS", "1")
    with prefect_test_harness(server_startup_timeout=120):
        yield
    patch.undo()


def contents(lake: str) -> list[list[tuple]]:
    with Lake(lake).connect() as con:
        return [con.execute(query).fetchall() for query in RESULTS]


def test_pipeline_flow_gives_the_lake_of_the_plain_functions(server, tmp_path):
    from flows.pipeline import pipeline
    from lakeinterp.commands.run import everything

    settings = tiny.settings(tmp_path, **{"capture.name": "tiny"})
    page = pipeline(load(values=settings))
    everything(load(values={**settings, "lake": str(tmp_path / "plain")}), None)
    assert contents(str(tmp_path / "lake")) == contents(str(tmp_path / "plain"))
    assert all(contents(str(tmp_path / "plain")))
    assert Path(page).read_text(encoding="utf-8").startswith("<!doctype html>")

    before = Lake(str(tmp_path / "lake")).version("judgements")
    assert pipeline(load(values=settings)) == page
    assert Lake(str(tmp_path / "lake")).version("judgements") == before


def test_pipeline_flow_starts_one_server_for_all_its_tasks_and_ends_it(server, tmp_path):
    from flows.pipeline import pipeline

    program = test_served.install(tmp_path / "bin")
    served = {"chat.vllm.model": "org/m", "chat.vllm.command": [str(program)]}
    judged = {"explain.explainer": "default", "score.scorers": ["detection"]}
    few = {"sampling.latents": [0, 1], "score.n_borrowed": 1}
    pipeline(load(values=tiny.settings(tmp_path, **served, **judged, **few)))
    (pid,) = test_served.lines(program, "starts")
    assert not test_served.is_there(int(pid))
    with Lake(str(tmp_path / "lake")).connect() as con:
        found = con.execute("SELECT DISTINCT status, scorer FROM judgements").fetchall()
    assert found == [("ok", "detection")]


def test_nights_of_the_rescore_flow_capture_more_and_redo_what_that_changed(server, tmp_path):
    from flows.rescore import rescore
    from lakeinterp.commands.run import everything

    settings = tiny.settings(tmp_path, **{"capture.name": "tiny", "capture.shard_tokens": 1024})
    config = load(values={**settings, "capture.n_tokens": 5120})
    everything(config, None)
    for _ in range(3):
        done = rescore(config, more_tokens=1024)
        assert done["redone"] > 0
        assert done["left"] == 0
    everything(load(values={**settings, "lake": str(tmp_path / "plain")}), None)
    grown, plain = (Lake(str(tmp_path / name)) for name in ("lake", "plain"))
    for query in RESULTS[:2]:
        assert grown.sql(query).fetchall() == plain.sql(query).fetchall()
    n_tokens = "SELECT count(DISTINCT n_tokens) FROM history"
    assert grown.sql(n_tokens).fetchall() == [(4,)]
    assert "report" in {path.stem for path in (tmp_path / "lake").glob("*.html")}
    version = grown.version("judgements")
    assert rescore(config)["redone"] == 0
    assert Lake(grown.root).version("judgements") == version


def test_rows_that_failed_are_a_warning_of_the_run(server, caplog):
    from prefect import flow

    from flows.artifacts import show_counts

    @flow
    def counting() -> None:
        show_counts("explain", {"ok": 1, "no_rule": 1, "http_error": 2})

    counting()
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert said.startswith("explain: 2 of 4 rows failed ({'http_error': 2})")


def test_wrong_settings_stop_a_flow_without_a_retry(server, tmp_path):
    from flows.capture import capture

    with pytest.raises(ConfigError, match=r"capture\.coder"):
        capture(load(values={"lake": str(tmp_path)}))


def test_tasks_at_one_time_are_as_many_as_the_settings_say(server):
    from prefect import flow, task

    from flows.common import for_each

    lock, running, most = threading.Lock(), 0, 0

    @task
    def work(config: Config, number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.2)
        with lock:
            running -= 1
        return number

    @flow
    def all_of_them(config: Config) -> list[int]:
        return for_each(work, config, number=list(range(6)))

    assert all_of_them(load(values={"flows.workers": 2})) == list(range(6))
    assert most == 2


def test_a_limit_on_a_tag_holds_over_the_tasks_of_a_flow(server):
    from prefect import flow, get_client, task

    from flows.common import for_each

    lock, running, most = threading.Lock(), 0, 0
    with get_client(sync_client=True) as client:
        limit = {"tag": "lakeinterp-few", "concurrency_limit": 1}
        client._client.post("/concurrency_limits/", json=limit).raise_for_status()

    @task
    def work(config: Config, number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.3)
        with lock:
            running -= 1
        return number

    @flow
    def all_of_them(config: Config) -> list[int]:
        return for_each(work, config, number=[0, 1, 2])

    settings = {"flows.workers": 3, "flows.tags": ["lakeinterp-few"]}
    assert all_of_them(load(values=settings)) == [0, 1, 2]
    assert most == 1


def test_a_unit_that_takes_too_long_is_tried_again_and_then_told_in_one_line(server, tmp_path):
    from flows.explain import explain

    settings = {**tiny.settings(tmp_path), "sampling.latents": [0], "explain.explainer": "default"}
    with Wire(lambda _: Answer(delay_s=30.0)) as wire:
        asked = wire.deployment().model_dump(mode="json", exclude_none=True)
        limits = {"flows.timeout_s": 1.0, "flows.retries": 1, "flows.retry_waits_s": [0.0]}
        more = {"chat.explainer.deployments": [asked], "sampling.latents": [0], **limits}
        config = load(values={**settings, **more})
        steps.capture(config)
        steps.sample(config)
        with pytest.raises(TimeoutError, match=r"^not done within 1 s; what it committed stays$"):
            explain(config)
    assert wire.n_requests == 2


@pytest.mark.filterwarnings("ignore:Couldn't detect a suitable IP address:RuntimeWarning")
def test_tasks_on_a_dask_cluster_write_what_plain_functions_write(server, tmp_path):
    from distributed import LocalCluster

    from flows.statistics import statistics

    counted = "SELECT * FROM latents ORDER BY ALL"
    plain, far = (planted_lake(str(tmp_path / name)).lake for name in ("plain", "far"))
    steps.statistics(load(values={"lake": plain.root}))
    with LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster:
        settings = {"flows.runner": "dask", "flows.cluster": cluster.scheduler_address}
        assert statistics(load(values={"lake": far.root, **settings})) > 0
    assert far.sql(counted).fetchall() == plain.sql(counted).fetchall()


@pytest.mark.filterwarnings("ignore:Couldn't detect a suitable IP address:RuntimeWarning")
def test_tasks_that_need_a_gpu_run_where_one_is(server):
    from distributed import Scheduler, SpecCluster, Worker, get_worker
    from prefect import flow, task

    from flows.common import for_each

    @task
    def where(config: Config, number: int) -> str:
        time.sleep(0.05)
        return str(get_worker().name)

    @flow
    def all_of_them(config: Config, gpus: float) -> set[str]:
        return set(for_each(where, config, gpus=gpus, number=list(range(6))))

    bare = {"cls": Worker, "options": {"nthreads": 1, "dashboard": False}}
    having = {"cls": Worker, "options": {**bare["options"], "resources": {"GPU": 1}}}
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "port": 0}}
    with SpecCluster({"with": having, "without": bare}, scheduler) as cluster:
        address = {"flows.cluster": cluster.scheduler_address, "flows.workers": 3}
        config = load(values={"flows.runner": "dask", **address})
        assert all_of_them(config, 1.0) == {"with"}
        assert all_of_them(config, 0.0) == {"with", "without"}


def test_flow_module_has_help():
    out = subprocess.run(
        [sys.executable, "-m", "flows.pipeline", "--help"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.startswith("Usage: python -m flows.pipeline")
    assert "--config" in out.stdout
