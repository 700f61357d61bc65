"""Every explainer on a planted lake, asked over real HTTP: what is sent, and what is written."""

from __future__ import annotations

import json
import re

import pytest

from lakeinterp import pipeline, registry
from lakeinterp.config import ExplainConfig
from lakeinterp.errors import ConfigError
from lakeinterp.explain.borrowed import BorrowedExplainer
from lakeinterp.explain.evidence import Evidence, Frequency
from lakeinterp.explain.others import Other
from lakeinterp.explain.random_other import RandomExplainer
from lakeinterp.lake import Lake
from lakeinterp.terms import LatentId
from tests import rule_driven
from tests.planted import HOOKPOINT
from tests.score.planted_examples import planted_config, sampled_lake
from tests.wire import Wire

CAT, AFTER_THE, SILENT, OFTEN = 0, 1, 2, 3
PLANTED = {"n_sequences": 80, "n_latents": 5, "n_buckets": 1}
OTHERS = "pattern"


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """Return a lake with examples and the pattern explainer's explanations."""
    root = tmp_path_factory.mktemp("planted") / "lake"
    config = planted_config().model_copy(update={"lake": str(root)})
    sampled_lake(root, config, **PLANTED)
    pipeline.explain(config, run="before")
    return root


def explained(root, wire=None, **settings):
    """Explain with some settings; return the rows by latent."""
    sections = {"explain": settings}
    if wire is not None:
        sections["chat"] = {"explainer": wire.route(), "attempts": 1, "concurrency": 4}
    config = planted_config(sampling={"latents": "0-4"}, **sections)
    run = pipeline.new_run()
    pipeline.explain(config.model_copy(update={"lake": str(root)}), run=run)
    rows = Lake(str(root)).rows("explanations")
    return {r["latent"]: r for r in rows if r["run"] == run}


def windows(root, role, latent=None):
    """Return the texts of the lake's examples of a role."""
    lake = Lake(str(root))
    vocabulary = lake.vocabulary(lake.capture()["tokenizer"])
    return {
        vocabulary.text(row["tokens"])
        for row in lake.rows("examples")
        if row["role"] == role and latent in (None, row["latent"])
    }


def texts_of(request):
    """Return the windows that a request shows, marks taken out."""
    asked = request["messages"][-1]["content"]
    return [re.sub("<<|>>", "", line) for line in re.findall(r"^\d+: (.*)$", asked, re.M)]


@pytest.mark.parametrize("name", ["default", "contrastive", "single_token"])
def test_an_explainer_that_asks_names_the_planted_word(sampled, name):
    with Wire(rule_driven.answer) as wire:
        rows = explained(sampled, wire, explainer=name)
    assert rows[CAT]["text"] == "the word cat"
    assert {r["status"] for r in rows.values()} == {"ok", "too_few_examples"}
    assert rows[SILENT]["status"] == "too_few_examples"
    assert all(bool(r["text"]) == (r["status"] == "ok") for r in rows.values())
    assert len(wire.requests) == len(rows) - 1


@pytest.mark.parametrize("name", ["default", "contrastive"])
def test_what_is_shown_is_of_the_explain_role_alone(sampled, name):
    with Wire(rule_driven.answer) as wire:
        explained(sampled, wire, explainer=name, temperature=0.5)
    mine, others = windows(sampled, "explain"), windows(sampled, "score")
    for request in wire.requests:
        assert texts_of(request)
        assert set(texts_of(request)) <= mine - others
    systems = {request["messages"][0]["content"] for request in wire.requests}
    assert len(systems) == 1


def test_contrastive_shows_silent_windows_without_marks_below_the_active_ones(sampled):
    with Wire(rule_driven.answer) as wire:
        explained(sampled, wire, explainer="contrastive", n_counter=3)
    for request in wire.requests:
        active, _, silent = request["messages"][1]["content"].partition("silent:")
        assert len(re.findall(r"^\d+: .*<<", active, re.M)) >= 10
        assert len(re.findall(r"^\d+: ", silent, re.M)) == 3
        assert "<<" not in silent


def test_single_token_shows_marked_pieces_and_nothing_around_them(sampled):
    with Wire(rule_driven.answer) as wire:
        explained(sampled, wire, explainer="single_token", n_shown=10)
    asked = [r["messages"][1]["content"].partition("active:\n\n")[2] for r in wire.requests]
    (pieces,) = (a.partition("\n\n")[0] for a in asked if a.startswith('" cat"'))
    assert re.fullmatch(r'" cat" x \d\d', pieces)


def test_none_and_constant_say_the_same_of_every_latent(sampled):
    for name, said in (("none", ""), ("constant", "any text at all")):
        rows = explained(sampled, explainer=name, constant="any text\nat all")
        assert {r["text"] for r in rows.values()} == {said}
        assert {r["status"] for r in rows.values()} == {"ok"}


@pytest.mark.parametrize("name", ["borrowed", "random"])
def test_a_baseline_takes_another_latents_text_and_never_its_own(sampled, name):
    own = {
        r["latent"]: r for r in Lake(str(sampled)).rows("explanations", f"explainer = '{OTHERS}'")
    }
    rows = explained(sampled, explainer=name, source_explainer=OTHERS, seed=9)
    assert rows.pop(SILENT)["status"] == "too_few_examples"
    assert len(rows) == len(own)
    for latent, row in rows.items():
        assert row["status"] == "ok"
        assert row["text"] != own[latent]["text"]
        taken = json.loads(row["detail"])
        assert taken["explained_latent"] != latent
        assert own[taken["explained_latent"]]["text"] == row["text"]


def test_the_choice_of_a_random_explanation_follows_the_seed_and_little_else():
    others = [Other(i, f"e{i}", f"text {i}", 0.0) for i in range(200)]

    def chosen(seed, others):
        explainer = RandomExplainer(ExplainConfig(seed=seed))
        found = explainer.arranged(others)
        return [next(explainer.in_turn(of(i), found)).latent for i in range(200)]

    def of(latent):
        return Evidence(latent=LatentId(capture="c", hookpoint="h", latent=latent), examples=())

    assert chosen(1, others) == chosen(1, others[::-1])
    assert sum(a == b for a, b in zip(chosen(1, others), chosen(2, others), strict=True)) < 20
    fewer = zip(chosen(1, others), chosen(1, others[:180]), strict=True)
    assert all(a == b for a, b in fewer if a < 180)


@pytest.mark.parametrize(
    ("density", "order"),
    [(0.31, [2, 3, 1, 4]), (0.0, [1, 2, 3, 4]), (9.0, [4, 3, 2, 1]), (0.24, [1, 2, 3, 4])],
)
def test_what_is_borrowed_is_nearest_in_density(density, order):
    others = [Other(i, f"e{i}", "", d) for i, d in ((3, 0.4), (1, 0.2), (4, 0.5), (2, 0.3))]
    explainer = BorrowedExplainer(ExplainConfig())
    frequency = Frequency(status="ok", n_windows=1, n_activations=1, density=density)
    latent = LatentId(capture="c", hookpoint="h", latent=0)
    evidence = Evidence(latent=latent, examples=(), frequency=frequency)
    found = explainer.in_turn(evidence, explainer.arranged(others))
    assert [o.latent for o in found] == order


def test_a_file_is_loaded_and_what_it_lacks_has_a_row_without_a_text(sampled, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        f"hookpoint,latent,explanation\n{HOOKPOINT},0,cats\n{HOOKPOINT},1,\nelse,3,no\n"
    )
    rows = explained(sampled, explainer="loaded", source=str(path))
    assert (rows[0]["text"], rows[0]["status"]) == ("cats", "ok")
    for latent in (1, 3):
        assert (rows[latent]["text"], rows[latent]["status"]) == (None, "not_applicable")
    assert "has an empty one" in rows[1]["reason"]
    assert "has no explanation of this latent" in rows[3]["reason"]


PLUGIN = """
from lakeinterp.explain import Explainer
from lakeinterp.terms import Explained


class Shouting(Explainer):
    name = "shouting"
    needs_chat = False
    settings = "v1"
    prompt = None

    def __init__(self, config):
        pass

    async def explain(self, evidence, chat):
        return Explained(text=evidence.activating[0].text.upper())
"""


def test_an_installed_package_adds_an_explainer_by_its_entry_point(sampled, tmp_path, monkeypatch):
    (tmp_path / "shouting_plugin.py").write_text(PLUGIN)
    installed = tmp_path / "shouting_plugin-1.0.dist-info"
    installed.mkdir()
    about = "Metadata-Version: 2.1\nName: shouting-plugin\nVersion: 1.0\n"
    (installed / "METADATA").write_text(about)
    (installed / "entry_points.txt").write_text(
        "[lakeinterp.explainers]\nshouting = shouting_plugin:Shouting\n"
        "pattern = shouting_plugin:Shouting\nbroken = shouting_plugin:Nothing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows = explained(sampled, explainer="shouting")
    strongest = rows[CAT]["text"]
    assert "CAT" in strongest
    assert strongest.lower() in windows(sampled, "explain", CAT)
    assert rows[SILENT]["status"] == "too_few_examples"
    assert "PatternExplainer" in registry.names("explainer")["pattern"]
    with pytest.raises(ConfigError, match=r"broken.*cannot be loaded"):
        explained(sampled, explainer="broken")
