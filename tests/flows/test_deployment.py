"""The way to a nightly run, word by word as the page says it, on a real server with a real worker.

Takes minutes: `make test-flows`.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta

import pytest

from flows.serve import FLOWS
from lakeinterp.lake import Lake
from tests import tiny
from tests.flows.site import FINAL, ROOT, Site, alive, end, family, until
from tests.flows.test_flows import contents
from tests.rule_driven import answer
from tests.wire import Answer, Wire

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

PIPELINE = "lakeinterp-pipeline/nightly"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with Site(folder, tiny.settings(folder, **{"capture.name": "tiny"})) as site:
        yield site


@pytest.fixture(scope="module")
def deployed(site):
    """The output of `prefect deploy --all`; a worker is there after it."""
    said = site.deploy()
    site.start_worker()
    return said


@pytest.fixture(autouse=True)
def clean_environment():
    """Processes of a site get an environment of their own."""


def test_every_flow_is_deployed_with_the_settings_of_the_file(site, deployed):
    named = re.findall(r"Deployment '(\S+)' successfully created", deployed)
    flows = {p.stem for p in (ROOT / "flows").glob("*.py") if "@flow(" in p.read_text("utf-8")}
    assert {f"lakeinterp-{flow}" for flow in flows} == {name.partition("/")[0] for name in named}
    for name in named:
        found = site.ask("GET", f"/deployments/name/{name}")
        assert found["parameters"]["config"]["capture"]["n_tokens"] == 8192
        assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert not any(schedule["active"] for schedule in found["schedules"])


def test_a_run_that_is_asked_for_finishes_and_shows_its_results(site, deployed):
    said = site.run("deployment", "run", PIPELINE, "--watch")
    assert "Flow run finished successfully" in said
    assert (site.folder / "lake" / "report.html").is_file()
    shown = {a["key"]: a for a in site.rows("artifacts")}
    assert shown["lakeinterp-progress-score-unit"]["data"] == 100
    assert "data:image/svg+xml;base64," in shown["lakeinterp-plots-tiny"]["data"]
    assert "fires on" in shown["lakeinterp-latents-tiny"]["data"]
    assert "report.html" in shown["lakeinterp-page-tiny"]["data"]
    logged = "\n".join(line["message"] for line in site.rows("logs"))
    assert "8192 tokens, 3001 activations, 4 shards" in logged
    tags = {tag for run in site.rows("task_runs") for tag in run["tags"]}
    assert tags == {"lakeinterp-capture"}  # the pattern rule asks no language model
    assert all(
        "lakeinterp" in run["tags"] for run in site.rows("flow_runs") if run["deployment_id"]
    )


def test_processes_make_the_lake_that_threads_make(site, deployed):
    found = site.ask("GET", f"/deployments/name/{PIPELINE}")["parameters"]["config"]
    beside = {**found, "lake": "beside", "flows": {**found["flows"], "runner": "processes"}}
    assert site.ended(site.begin(PIPELINE, config=beside))["type"] == "COMPLETED"
    assert contents(str(site.folder / "beside")) == contents(str(site.folder / "lake"))


def test_a_scheduled_run_fires_and_finds_nothing_left_to_do(site, deployed):
    version = Lake(str(site.folder / "lake")).version("judgements")
    found = site.ask("GET", f"/deployments/name/{PIPELINE}")
    # Several minutes, as the server may look at new schedules only after the first is over.
    now = datetime.now(UTC)
    minutes = ",".join(str((now + timedelta(minutes=n)).minute) for n in range(1, 6))
    path = f"/deployments/{found['id']}/schedules"
    cron = {"cron": f"{minutes} * * * *", "timezone": "UTC"}
    (made,) = site.ask("POST", path, [{"schedule": cron, "active": True}])

    def fired() -> list[str]:
        runs = [run for run in site.rows("flow_runs") if run["auto_scheduled"]]
        return [run["state_type"] for run in runs if run["state_type"] in FINAL]

    until(lambda: bool(fired()), 480, "the schedule does not fire")
    assert fired()[0] == "COMPLETED"
    site.ask("DELETE", f"{path}/{made['id']}", None)
    assert Lake(str(site.folder / "lake")).version("judgements") == version


def test_a_cancelled_run_leaves_no_process_and_a_lake_that_the_next_completes(site, deployed):
    def slowly(body):
        return Answer(text=answer(body), delay_s=2.0)

    explain = "lakeinterp-explain/on-demand"
    found = site.ask("GET", f"/deployments/name/{explain}")["parameters"]["config"]
    with Wire(slowly, key=None) as wire:
        asked = wire.deployment(api_key_env=None).model_dump(mode="json", exclude_none=True)
        found["explain"]["explainer"] = "default"
        found["chat"]["concurrency"] = 1
        found["chat"]["explainer"]["deployments"] = [asked]
        run = site.begin(explain, config=found)
        until(lambda: wire.n_requests >= 2, 300, "nothing is asked")
        began = [process.pid for process in family(site.worker)]
        site.cancel(run)
        assert site.ended(run)["type"] == "CANCELLED"
        until(lambda: not list(alive(began)), 120, "processes are left")
        before = wire.n_requests
        assert site.ended(site.begin(explain, config=found))["type"] == "COMPLETED"
    rows = Lake(str(site.folder / "lake")).rows("explanations")
    own = [row for row in rows if row["explainer"] == "default"]
    assert [row["status"] for row in own] == ["ok"] * 7
    assert wire.n_requests <= 7 + 1 < before + 7


def test_served_flows_run_without_a_pool(site, deployed):
    command = [sys.executable, "-m", "flows.serve", "--config", "lakeinterp.toml"]
    process = site.start("serve", command)
    try:
        until(
            lambda: sum(d["name"] == "served" for d in site.rows("deployments")) == len(FLOWS),
            300,
            "not every flow is served",
        )
        said = site.run("deployment", "run", "lakeinterp-upkeep/served", "--watch")
        assert "Flow run finished successfully" in said
    finally:
        end(process)
