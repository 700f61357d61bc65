"""Settings: three doors, one tree; every refusal names the setting."""

from __future__ import annotations

import pytest

from lakeinterp import config
from lakeinterp.errors import ConfigError, NotFound


def test_file_beats_default_and_set_beats_file(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[sampling]\nseed = 1\nn_quantiles = 3\n")
    loaded = config.load(file, ["sampling.seed=2", "explain.explainer=default"])
    assert (loaded.sampling.seed, loaded.sampling.n_quantiles) == (2, 3)
    assert loaded.explain.explainer == "default"
    assert loaded.score == config.ScoreConfig()


def test_lake_comes_from_the_command_then_the_environment_then_the_default(monkeypatch):
    assert config.load().lake == "lake"
    monkeypatch.setenv("LAKEINTERP_LAKE", "elsewhere")
    assert config.load().lake == "elsewhere"
    assert config.load(values={"lake": "here"}).lake == "here"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampling.n_quantile=3", r"sampling\.n_quantile: .*did you mean 'n_quantiles'"),
        ("sampler.seed=3", r"sampler: .*did you mean 'sampling'"),
        ("sampling.seed=x", r"sampling\.seed: .*integer"),
        ("sampling.seed=-1", r"sampling\.seed: .*greater than or equal to 0"),
        ("sampling.window_tokens=300", r"window_tokens \(300\) must not exceed .*\(256\)"),
        ("capture.shard_tokens=1000", r"shard_tokens \(1000\) must be a multiple of .*\(256\)"),
        ("sampling.n_explain=9", r"n_explain \(9\) must not be below .*n_quantiles \(10\)"),
        ("sampling.n_score=3", r"n_score \(3\) must not be below .*n_quantiles \(10\)"),
        ("sampling.seed", r"--set sampling\.seed: write key=value"),
        ("lake.x=3", r"lake: .*string"),
        ("capture.dtype=int4", r"capture\.dtype: .*'float32'"),
        ("explain.highlight_above=2", r"explain\.highlight_above: .*less than or equal to 1"),
        (
            'chat.judge.deployments=[{model="hosted_vllm/a", api_base=""}]',
            r"deployments\.0\.api_base: .*at least 1 character",
        ),
    ],
)
def test_wrong_setting_is_refused_by_name(override, message):
    with pytest.raises(ConfigError, match=message):
        config.load(overrides=[override])


def test_missing_and_torn_files_are_said_so(tmp_path):
    with pytest.raises(NotFound, match=r"unknown configuration file '.*gone\.toml'"):
        config.load(tmp_path / "gone.toml")
    (tmp_path / "torn.toml").write_text("[sampling\n")
    with pytest.raises(ConfigError, match=r"torn\.toml"):
        config.load(tmp_path / "torn.toml")
    (tmp_path / "latin.toml").write_bytes('[report]\ntitle = "caf\xe9"\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.toml: not UTF-8 at byte 21"):
        config.load(tmp_path / "latin.toml")


def test_sample_id_follows_what_decides_an_example_and_not_the_choice_of_latents():
    base = config.SamplingConfig()
    assert base.sample == config.SamplingConfig(max_latents=3, latents=(1,)).sample
    assert base.sample != config.SamplingConfig(seed=23).sample


@pytest.mark.parametrize("text", ['[{model = "a/b"}]', '[{"model": "a/b"}]'])
def test_lists_of_tables_are_set_as_toml_or_json(text):
    made = config.load(overrides=[f"chat.explainer.deployments={text}"])
    assert made.chat.explainer.deployments[0].model == "a/b"


def test_list_that_is_neither_toml_nor_json_is_refused():
    with pytest.raises(ConfigError, match=r"--set: \[\{model: a\}\]: neither TOML nor JSON"):
        config.load(overrides=["chat.explainer.deployments=[{model: a}]"])
