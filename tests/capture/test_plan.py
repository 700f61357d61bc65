"""`lakeinterp plan`: its intervals hold what the run then comes to, and it leaves nothing."""

from __future__ import annotations

import json

import pytest

from lakeinterp import cli, pipeline
from lakeinterp.capture import capture
from lakeinterp.chat import ScriptedChat
from lakeinterp.commands.outlook import Interval, duration
from lakeinterp.commands.plan import _usd, bootstrap, estimate
from lakeinterp.config import load
from lakeinterp.errors import ConfigError
from lakeinterp.lake import Lake
from lakeinterp.sampling import sample
from tests import tiny
from tests.rule_driven import answer


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tiny.settings(tmp_path_factory.mktemp("tiny"))


def test_intervals_hold_what_the_run_comes_to(built, tmp_path):
    models = {"explain.explainer": "default", "score.scorers": ("detection", "fuzzing")}
    config = load(values={**built, **models, "lake": str(tmp_path / "lake")})
    outlook = estimate(config, 4096)
    assert not (tmp_path / "lake").exists()
    lake = Lake(config.lake)
    done = capture(lake, config)
    assert outlook.n_rows.low * 0.97 <= done.n_rows <= outlook.n_rows.high * 1.03
    held = sum(file.stat().st_size for file in (tmp_path / "lake").rglob("*=*/*.parquet"))
    assert outlook.n_bytes.low * 0.7 <= held <= outlook.n_bytes.high * 1.3

    sample(lake, config)
    routes: list[str] = []

    def scripted(request) -> str:
        routes.append(request.route)
        return answer(request.as_json())

    chat = ScriptedChat(scripted)
    explained = pipeline.explain(config, run="r", chat=chat)
    pipeline.score(config, run="r", chat=chat)
    assert outlook.n_latents.low <= explained.counts["ok"] <= outlook.n_latents.high
    for route, calls in outlook.calls.items():
        assert calls.low * 0.8 <= routes.count(route) <= calls.high * 1.2, route


def test_plan_says_everything_in_lines_and_asks_no_model(built, tmp_path, capsys):
    settings = [f"{k}={json.dumps(v)}" for k, v in built.items() if k != "lake"]
    arguments = [part for text in settings for part in ("--set", text)]
    options = ["--lake", str(tmp_path / "lake"), "--slice-tokens", "4096"]
    assert cli.run(["plan", *arguments, *options]) == 0
    out = capsys.readouterr().out
    for word in ("activations", "disk", "capture", "memory", "latents", "no language model"):
        assert word in out
    assert cli.run(["plan", *arguments, *options, "--scorers", "detection"]) == 0
    out = capsys.readouterr().out
    assert "judge" in out
    assert "cost         unknown: give the deployment prices" in out
    assert not (tmp_path / "lake").exists()


def test_slice_of_less_than_two_sequences_is_refused(built, tmp_path):
    with pytest.raises(ConfigError, match="--slice-tokens 100: give 128 or more"):
        estimate(load(values={**built, "lake": str(tmp_path)}), 100)


def test_bootstrap_interval_holds_the_mean_and_shrinks_with_more_measurements():
    few, many = bootstrap([1.0, 3.0] * 4), bootstrap([1.0, 3.0] * 400)
    assert few.expected == many.expected == 2.0
    assert few.low < many.low < 2.0 < many.high < few.high
    assert bootstrap([5.0]) == Interval(5.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("deployment", "usd"),
    [
        ({"model": "a/b", "input_cost_per_token": 1e-3, "output_cost_per_token": 0.1}, (3, 5, 7)),
        ({"model": "hosted_vllm/tiny"}, (0, 0, 0)),
        ({"model": "openai/gpt-4o-mini"}, (1.62e-4, 1.74e-4, 1.86e-4)),
        ({"model": "openrouter/of/nobody"}, None),
    ],
)
def test_cost_is_estimated_where_the_price_is_known(deployment, usd):
    config = load(values={"chat.explainer": {"deployments": [deployment]}})
    calls = {"prompt_tokens": (1000, 1000, 1000), "reply_tokens": (20, 40, 60)}
    found = _usd(config, "judge", {name: {"judge": Interval(*n)} for name, n in calls.items()})
    assert found == (None if usd is None else pytest.approx(usd))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(5, "5.0 s"), (119, "119.0 s"), (120, "2.0 min"), (9000, "2.5 h"), (260_000, "3.0 days")],
)
def test_durations_are_written_for_people(seconds, shown):
    assert duration(seconds) == shown
