"""`lakeinterp plan` counts the calls of every explainer and scorer that the run then makes."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter

import pytest

from lakeinterp import pipeline, registry, subject
from lakeinterp.capture import capture
from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.commands.outlook import Interval
from lakeinterp.commands.plan import _NAME, _calls, _probe
from lakeinterp.config import load
from lakeinterp.lake import Lake
from lakeinterp.sampling import sample
from tests.rule_driven import answer
from tests.subject import built

ASKING = sorted(n for n in registry.EXPLAINERS if registry.resolve("explainer", n).needs_chat)
BETWEEN = ("best_of_k", "iterative")
"""How often these ask depends on what is said: a plan gives the least and the most."""
JUDGED = sorted(
    {n for n in registry.SCORERS if registry.resolve("scorer", n).needs_chat}
    - {"recall", "sensitivity"}
)
MORE = {
    "capture.name": _NAME,
    "capture.n_tokens": 4096,
    "capture.n_buckets": 1,
    "sampling.n_explain": 8,
    "sampling.n_explain_negatives": 8,
    "sampling.n_score": 4,
    "sampling.n_random": 4,
    "sampling.n_neighbour": 2,
    "score.n_borrowed": 1,
    "score.n_simulated": 2,
    "score.n_interventions": 2,
    "score.n_written": 6,
    "score.repeat_share": 0,
}


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    values = built.settings(tmp_path_factory.mktemp("plan"), **MORE)
    config = load(values=values)
    capture(Lake(config.lake), config)
    sample(Lake(config.lake), config)
    yield config
    subject.close()


def planned(captured, folder, **sections):
    """Return the settings on a copy of the lake, what is asked of it, and what a plan counts."""
    shutil.copytree(captured.lake, folder / "lake")
    shutil.copytree(captured.lake, folder / "probed")
    changes = {
        name: getattr(captured, name).model_copy(update=values) for name, values in sections.items()
    }
    config = captured.model_copy(update={"lake": str(folder / "lake"), **changes})
    small = config.model_copy(update={"lake": str(folder / "probed")})
    probed = _probe(Lake(small.lake), small)
    n = float(probed.n_latents)
    return config, _calls(probed, Interval(n, n, n))["calls"]


def asked(config, *steps, answer=answer):
    """Do the steps with a chat that answers by rules; return the calls, by route.

    Equal requests are one call, as they are where replies are stored.
    """
    routes = {}

    def reply(request):
        routes[request.key("")] = request.route
        return answer({"messages": [{"content": m.content} for m in request.messages]})

    for step in steps:
        step(config, run="r", chat=ScriptedChat(reply))
    return Counter(routes.values())


@pytest.mark.parametrize("name", ASKING)
def test_calls_of_an_explainer_are_those_that_were_planned(captured, tmp_path, name):
    explain = {"explainer": name, "few_shot": "turns", "n_candidates": 2, "n_judged": 4}
    score = {"scorers": ()}
    config, calls = planned(captured, tmp_path, explain=explain, score=score)
    made = asked(config, pipeline.explain)
    assert set(made) <= set(calls)
    for route, expected in calls.items():
        assert expected.low <= made[route] <= expected.high, route
        if name not in BETWEEN:
            assert made[route] == expected.expected


def test_an_explainer_that_never_gets_it_right_asks_as_often_as_was_planned(captured, tmp_path):
    said = iter(range(10**6))

    def wrong(body):
        texts = body["messages"][-1]["content"].partition("Texts:")[2]
        if texts:
            return json.dumps({"labels": [0] * len(re.findall(r"^\d+: ", texts, re.MULTILINE))})
        return json.dumps({"explanation": f"number {next(said)}"})

    explain = {"explainer": "iterative", "few_shot": "turns", "n_rounds": 2, "n_judged": 4}
    config, calls = planned(captured, tmp_path, explain=explain, score={"scorers": ()})
    made = asked(config, pipeline.explain, answer=wrong)
    assert made == {route: expected.high for route, expected in calls.items()}


def test_calls_of_all_scorers_are_those_that_were_planned(captured, tmp_path):
    score = {"scorers": (*JUDGED, "sensitivity")}
    sections = {"explain": {"explainer": "default"}, "score": score}
    config, calls = planned(captured, tmp_path, **sections)
    made = asked(config, pipeline.explain, pipeline.score)
    assert set(calls) == {"explainer", "judge"}
    for route, expected in calls.items():
        # Latents that are explained alike share their borrowed replies.
        assert 0.9 * expected.expected <= made[route] <= expected.expected, route


def test_judges_of_texts_from_elsewhere_are_planned_without_asking_an_explainer(captured, tmp_path):
    sections = {"explain": {"explainer": "random"}, "score": {"scorers": ("detection",)}}
    _, calls = planned(captured, tmp_path, **sections)
    assert set(calls) == {"judge"}
    assert calls["judge"].expected > 0
