"""What flows make of settings, without a server: forms, deployments, shares, runners, pictures."""

from __future__ import annotations

import shutil
import tomllib
from xml.etree import ElementTree

import pytest
import yaml
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from flows import artifacts, deploy, serve
from flows.common import may_work_later, shared
from flows.runners import runner_of
from lakeinterp import pipeline, steps
from lakeinterp.config import Config, load
from lakeinterp.errors import ConfigError, Conflict
from lakeinterp.report import pictures
from lakeinterp.report.records import Bin, DensityStep, Pair, Summary
from tests.flows.site import ROOT, toml
from tests.flows.test_flows import contents
from tests.planted import planted_lake
from tests.rule_driven import answer
from tests.wire import Wire

pytestmark = pytest.mark.flow


@pytest.mark.parametrize("flow", serve.FLOWS, ids=lambda flow: flow.name)
def test_the_form_of_a_flow_shows_what_every_setting_means(flow):
    schema = flow.parameters.model_dump()
    described = [
        (name, key, entry.get("description"))
        for name, section in schema["definitions"].items()
        if section.get("type") == "object"
        for key, entry in section["properties"].items()
    ]
    assert ("FlowsConfig", "workers") in {(name, key) for name, key, _ in described}
    assert not [(name, key) for name, key, sentence in described if not sentence]
    own = schema["properties"]
    assert own["config"]["description"].startswith("Every setting")
    assert all(entry.get("description") for entry in own.values())
    assert "storage_options" not in schema["definitions"]["Config"]["properties"]


def test_deployments_get_every_setting_of_the_file_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"lake": "s3://b/lake", "storage_options.AWS_SECRET_ACCESS_KEY": "hush"}
    (tmp_path / "lakeinterp.toml").write_text(toml({**settings, "flows.workers": 5}))
    given = deploy.settings()
    assert "hush" not in str(given)
    assert given["directory"] == str(tmp_path)
    assert Config.model_validate(given["config"]) == load(
        values={"lake": "s3://b/lake", "flows.workers": 5}
    )


def test_a_file_of_deployments_is_written_for_the_package_and_never_over_another(tmp_path):
    found = yaml.safe_load(deploy.write(tmp_path).read_text())
    assert found == yaml.safe_load((ROOT / "prefect.yaml").read_text())
    with pytest.raises(ConfigError, match="is there already"):
        deploy.write(tmp_path)


def test_an_installed_package_deploys_its_own_flows(tmp_path, monkeypatch):
    monkeypatch.setattr(deploy, "package", lambda: "lakeinterp.flows")
    found = yaml.safe_load(deploy.write(tmp_path).read_text())
    assert all(d["entrypoint"].startswith("lakeinterp.flows.") for d in found["deployments"])
    assert "lakeinterp.flows.deploy.settings" in found["build"][0]
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = shipped["targets"]["wheel"]["force-include"]
    assert included["prefect.yaml"] == "lakeinterp/flows/prefect.yaml"
    assert included["automations.yaml"] == "lakeinterp/flows/automations.yaml"


def test_runs_are_lost_only_after_three_heartbeats_and_never_once_they_ended(tmp_path):
    from prefect.events.schemas.automations import AutomationCore
    from prefect.settings import get_current_settings

    deploy.write(tmp_path)
    (found,) = yaml.safe_load((tmp_path / "automations.yaml").read_text())["automations"]
    trigger = AutomationCore.model_validate(found).trigger
    every = get_current_settings().flows.heartbeat_frequency
    assert trigger.within.total_seconds() > 3 * every
    ends = {"Completed", "Failed", "TimedOut", "Cancelled", "Crashed"}
    assert trigger.expect == {f"prefect.flow-run.{name}" for name in (*ends, "heartbeat")}
    names = {flow.name for flow in serve.FLOWS}
    assert all(name.startswith("lakeinterp-") for name in names)
    assert found["trigger"]["match_related"]["prefect.resource.name"] == "lakeinterp-*"


def test_every_schedule_sleeps_until_it_is_woken():
    found = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    schedules = [s for d in found for s in d.get("schedules", ())]
    assert schedules
    assert not any(schedule["active"] for schedule in schedules)


def test_served_flows_are_found_again_by_their_module_and_only_the_pipeline_has_the_schedule():
    made = serve.deployments(load(values={"flows.workers": 3}), "0 2 * * *")
    assert [d.entrypoint for d in made if d.schedules] == ["flows.pipeline.pipeline"]
    assert {d.parameters["config"]["flows"]["workers"] for d in made} == {3}


def test_tasks_share_the_limits_of_calls_and_none_has_them_for_itself():
    route = {"max_concurrency": 6, "requests_per_minute": 60}
    config = load(values={"chat.concurrency": 8, "chat.explainer": route, "flows.workers": 4})
    own = shared(config, n_tasks=100)
    assert own.chat.concurrency == 2
    assert own.chat.explainer.max_concurrency == 1
    assert own.chat.explainer.requests_per_minute == 15
    assert shared(config, n_tasks=1).chat == config.chat
    assert shared(config, n_tasks=0).chat == config.chat


def test_what_is_asked_and_what_is_kept_do_not_depend_on_who_shares_the_limits(tmp_path):
    few = {
        "sampling.window_tokens": 16, "sampling.n_quantiles": 4, "sampling.n_explain": 8,
        "sampling.n_score": 8, "sampling.n_random": 8, "sampling.n_explain_negatives": 8,
        "sampling.min_windows": 5, "sampling.latents": [0, 1], "score.n_borrowed": 1,
        "explain.explainer": "default", "score.scorers": ["detection"], "flows.workers": 3,
    }  # fmt: skip
    kept = []
    planted_lake(str(tmp_path / "lake"))
    steps.sample(load(values={"lake": str(tmp_path / "lake"), **few}))
    with Wire(answer) as wire:
        asked = wire.deployment(max_concurrency=6).model_dump(mode="json", exclude_none=True)
        for name, n_tasks in (("alone", 1), ("shared", 3)):
            shutil.copytree(tmp_path / "lake", tmp_path / name)
            values = {"lake": str(tmp_path / name), "chat.explainer.deployments": [asked], **few}
            config = shared(load(values=values), n_tasks)
            pipeline.explain(config, run="r")
            pipeline.score(config, run="r")
            kept.append(contents(str(tmp_path / name)))
    assert kept[0] == kept[1]
    assert [len(rows) for rows in kept[0][4:]] == [2, 80, 32]


def test_no_more_tasks_ask_at_one_time_than_can_share_a_limit():
    config = load(values={"chat.concurrency": 2, "flows.workers": 4})
    own = shared(config, n_tasks=100)
    assert (own.flows.workers, own.chat.concurrency) == (2, 1)


@pytest.mark.parametrize(
    ("name", "kind"), [("threads", ThreadPoolTaskRunner), ("processes", ProcessPoolTaskRunner)]
)
def test_the_settings_choose_what_runs_the_tasks(name, kind):
    runner = runner_of(load(values={"flows.runner": name, "flows.workers": 3}).flows)
    assert type(runner) is kind
    assert runner._max_workers == 3


class _State:
    def __init__(self, error):
        self._error = error

    def result(self, *, raise_on_failure):
        assert not raise_on_failure
        return self._error


@pytest.mark.parametrize(
    ("error", "is_worth_it"),
    [(ConfigError("x"), False), (Conflict("x"), True), (TimeoutError(), True)],
)
def test_what_the_user_has_to_mend_is_not_tried_again(error, is_worth_it):
    assert may_work_later(None, None, _State(error)) is is_worth_it


SUMMARY = Summary(
    pair=Pair("pattern", "pattern"), n_latents=3, n_without=0, mean=0.9, interval=None,
    mean_null=0.5, mean_corrected=0.8, n_compared=3, n_above=3, n_items=30, n_failed=0,
    histogram=(Bin(0.0, 0.5, 0, 2), Bin(0.5, 1.0, 3, 1)),
    by_density=(DensityStep(-6, 1, 0.8, 0.9, 1.0), DensityStep(-4, 2, 0.7, 0.8, 0.9)),
)  # fmt: skip


def test_pictures_are_whole_svg_whatever_their_title_is():
    for made in (pictures.scores_picture, pictures.density_picture):
        root = ElementTree.fromstring(made(SUMMARY, 'a "<b>&'))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert 'a "<b>&' in [text.text for text in root.iter() if text.text]
    bars = ElementTree.fromstring(pictures.scores_picture(SUMMARY, "x")).iter()
    assert len([mark for mark in bars if mark.get("fill") == "#2a6fdb"]) == 1


def test_what_a_model_said_is_no_markup_on_a_page_of_prefect():
    said = "see ![x](http://a/p.png) <img src=y>\\[l](z)\nand more"
    assert artifacts._plain(said) == (
        "see !\\[x](http://a/p.png) \\<img src=y>\\\\\\[l](z)\N{RETURN SYMBOL} and more"
    )
