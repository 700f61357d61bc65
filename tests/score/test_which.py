"""Which explanations are scored: those of the settings, else the newest, and that is said."""

from __future__ import annotations

import logging

import pytest

from lakeinterp import pipeline
from lakeinterp.lake import Lake
from tests.planted import CAPTURE, HOOKPOINT
from tests.score.planted_examples import planted_config, sampled_lake

LATENTS = {"sampling": {"latents": [0, 1, 3]}}


@pytest.fixture
def lake(tmp_path):
    """A lake in which `constant` said `old` first and `new` later, of fewer latents."""
    root = str(tmp_path / "lake")
    sampled_lake(root, told(root, "old"), n_buckets=1)
    pipeline.explain(told(root, "old"), run="r")
    pipeline.explain(told(root, "new", latents=[0, 1]), run="r")
    return root


def told(root, text, latents=(0, 1, 3)):
    sections = {"explain": {"explainer": "constant", "constant": text}}
    config = planted_config(**sections, sampling={"latents": list(latents)})
    return config.model_copy(update={"lake": root})


def scored(root, config):
    before = {r["explanation"] for r in Lake(root).rows("scores")}
    pipeline.score(config, run="r")
    names = {r["explanation"] for r in Lake(root).rows("scores")} - before
    rows = Lake(root).rows("explanations")
    return {r["latent"]: r["text"] for r in rows if r["explanation"] in names}


def test_explanations_of_the_settings_are_scored_though_others_are_newer(lake, caplog):
    assert scored(lake, told(lake, "old")) == {0: "old", 1: "old", 3: "old"}
    (line,) = caplog.messages
    assert "2 latents have newer ones made with others" in line
    caplog.clear()
    assert scored(lake, told(lake, "new")) == {0: "new", 1: "new"}
    assert caplog.messages == []


def test_where_the_settings_made_none_the_newest_are_scored_and_one_line_says_so(lake, caplog):
    with caplog.at_level(logging.WARNING):
        assert scored(lake, told(lake, "another")) == {0: "new", 1: "new", 3: "old"}
    (line,) = caplog.messages
    assert line.startswith(
        f"{CAPTURE}/{HOOKPOINT}: none of the explanations by 'constant' was made"
    )


def test_loaded_explanations_are_scored_without_naming_their_source_again(tmp_path, caplog):
    root, path = str(tmp_path / "lake"), tmp_path / "mine.csv"
    path.write_text("latent,explanation\n0,cats\n")
    values = {"explain": {"explainer": "loaded", "source": str(path)}, **LATENTS}
    config = planted_config(**values).model_copy(update={"lake": root})
    sampled_lake(root, config, n_buckets=1)
    pipeline.explain(config, run="r")
    bare = config.model_copy(update={"explain": config.explain.model_copy(update={"source": None})})
    assert scored(root, bare)[0] == "cats"
    assert "the newest one of each latent is scored" in caplog.text
