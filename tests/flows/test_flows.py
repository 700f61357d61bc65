"""The flows on a real Prefect server of the test's own: same lake as the plain functions."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lakeinterp.config import Config, load
from lakeinterp.errors import ConfigError
from lakeinterp.lake import Lake
from tests import tiny
from tests.chat import test_served

pytestmark = [pytest.mark.flow, pytest.mark.slow]

RESULTS = (
    "SELECT hookpoint, latent, token, value FROM activations ORDER BY ALL",
    "SELECT * FROM latents ORDER BY ALL",
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


def test_flow_form_shows_the_sentences_of_the_settings():
    from flows.pipeline import pipeline

    schema = pipeline.parameters.model_dump()
    assert "Tokens shown in one example." in str(schema)
    assert "Whether" not in schema["required"]


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
