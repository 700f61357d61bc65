"""Statistics of latents against the same counted token by token, and the choice among latents."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakeinterp import cli
from lakeinterp.config import Config, SamplingConfig, load
from lakeinterp.errors import ConfigError
from lakeinterp.lake.units import selected_latents, units
from lakeinterp.sampling import sample
from lakeinterp.sampling import statistics as counting
from lakeinterp.sampling.crew import crew_for
from lakeinterp.sampling.statistics import N_LEVELS, N_PARTS, N_TOP_TOKENS, statistics_unit
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT, planted_lake
from tests.sampling.small import N_LATENTS, random_lake

UNITS = [Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=b) for b in range(3)]


@settings(max_examples=6, deadline=None, derandomize=True, phases=(Phase.generate,))
@given(
    seed=st.integers(0, 2**30),
    context=st.sampled_from([7, 24, 64]),
    window=st.sampled_from([2, 5, 32]),
    min_windows=st.sampled_from([1, 4]),
)
def test_statistics_are_those_counted_token_by_token(
    tmp_path_factory, seed, context, window, min_windows
):
    planted = random_lake(str(tmp_path_factory.mktemp("random")), seed, context)
    config = SamplingConfig(window_tokens=window, min_windows=min_windows, workers=1)
    with crew_for(planted.lake, CAPTURE, config, hookpoint=HOOKPOINT) as crew:
        counted = counting.statistics(crew, UNITS)
    rows = planted.lake.rows("latents")
    assert [row["latent"] for row in rows] == list(range(N_LATENTS))
    assert [sum(r["status"] == "dead" for r in rows[i * 2 : i * 2 + 2]) for i in range(3)] == [
        unit.n_dead for unit in counted
    ]
    truth = Truth(planted, config)
    for row in rows:
        truth.check(row)


@pytest.mark.parametrize("more", [{}, {"n_neighbour": 3, "n_same_token": 2, "score_draw": "mix"}])
def test_a_lake_in_which_nothing_fires_has_a_row_for_every_latent(tmp_path, more):
    lake = random_lake(str(tmp_path), 3, 24, 5, (0,)).lake
    done = sample(lake, Config(sampling=SamplingConfig(window_tokens=5, min_windows=1, **more)))
    assert [row["latent"] for row in lake.rows("latents")] == list(range(N_LATENTS))
    assert {row["status"] for row in lake.rows("latents")} == {"dead"}
    assert [(unit.n_dead, unit.n_selected, unit.n_examples) for unit in done] == [(2, 0, 0)] * 3


class Truth:
    """What the rows must say, from the dense activations."""

    def __init__(self, planted, config):
        self.config, self.dense = config, planted.dense
        self.context = planted.tokens.shape[1]
        self.tokens = planted.tokens.ravel().tolist()
        self.document = planted.documents.ravel().tolist()
        self.inside = [i for i, d in enumerate(self.document) if d >= 0]
        self.first = {}
        for i in self.inside:
            begins = i % self.context == 0 or self.document[i - 1] != self.document[i]
            self.first[i] = i if begins else self.first[i - 1]

    def beside(self, i, step):
        """Return the token before or after in the same document and sequence."""
        j = i + step
        there = self.first.get(j) == self.first[i]
        return self.tokens[j] if there else None

    def check(self, row):
        fired = [i for i in self.inside if self.dense[i, row["latent"]]]
        values = sorted(float(self.dense[i, row["latent"]]) for i in fired)
        tiles = {(self.first[i], (i - self.first[i]) // self.config.window_tokens) for i in fired}
        n = len(fired)
        assert (row["n_activations"], row["n_windows"]) == (n, len(tiles))
        assert row["n_documents"] == len({self.document[i] for i in fired})
        assert row["n_tokens"] == len(self.inside)
        assert row["density"] == (n / len(self.inside) if n else 0)
        assert row["status"] == self.status(row)
        if not n:
            empty = ("quantiles", "histogram", "top_tokens", "top_before", "top_after")
            assert all(row[name] == [] for name in empty)
            shares = ("max", "mean", "single_token", "special_share", "first_share")
            assert all(row[name] is None for name in (*shares, "position_bias"))
            return
        assert row["max"] == values[-1]
        assert row["mean"] == pytest.approx(sum(values) / n, rel=1e-6)
        levels = [values[-(-k * n // N_LEVELS) - 1] for k in range(1, N_LEVELS)]
        assert row["quantiles"] == levels
        self.check_histogram(row["histogram"], values)
        self.check_tokens(row["top_tokens"], fired, lambda i: self.tokens[i])
        self.check_tokens(row["top_before"], fired, lambda i: self.beside(i, -1))
        self.check_tokens(row["top_after"], fired, lambda i: self.beside(i, 1))
        assert row["single_token"] == row["top_tokens"][0]["count"] / n
        assert row["special_share"] == sum(self.tokens[i] == 0 for i in fired) / n
        assert row["first_share"] == sum(self.first[i] == i for i in fired) / n
        assert row["position_bias"] == pytest.approx(self.bias(fired), abs=1e-9)

    def status(self, row):
        if not row["n_activations"]:
            return "dead"
        if row["n_windows"] < self.config.min_windows:
            return "rare"
        return "dense" if row["density"] > self.config.dense_above else "ok"

    def check_histogram(self, bars, values):
        assert all(bar["low"] < bar["high"] and bar["count"] for bar in bars)
        assert all(a["high"] <= b["low"] for a, b in pairwise(bars))
        for bar in bars:
            assert abs(bar["high"] / bar["low"]) in (
                pytest.approx(math.sqrt(2)),
                pytest.approx(1 / math.sqrt(2)),
            )
            closed = [v for v in values if bar["low"] <= v < bar["high"] and v > 0]
            mirrored = [v for v in values if bar["low"] < v <= bar["high"] and v < 0]
            assert bar["count"] == len(closed) + len(mirrored)
        assert sum(bar["count"] for bar in bars) == len(values)

    def check_tokens(self, listed, fired, token_at):
        def counted(places):
            return Counter(t for t in map(token_at, places) if t is not None)

        n, everywhere = counted(fired), counted(self.inside)
        top = sorted(n.items(), key=lambda item: (-item[1], item[0]))[:N_TOP_TOKENS]
        assert [(t["token_id"], t["count"]) for t in listed] == top
        for t in listed:
            joint = t["count"] / len(self.inside)
            apart = everywhere[t["token_id"]] / len(self.inside) * len(fired) / len(self.inside)
            assert t["pmi"] == pytest.approx(math.log2(joint / apart), abs=1e-9)

    def bias(self, fired):
        def shares(places):
            parts = Counter(i % self.context * N_PARTS // self.context for i in places)
            return [parts[k] / len(places) for k in range(N_PARTS)]

        def from_middle(p, middle):
            return sum(a * math.log2(a / b) for a, b in zip(p, middle, strict=True) if a)

        p, q = shares(fired), shares(self.inside)
        middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        return (from_middle(p, middle) + from_middle(q, middle)) / 2


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    lake = planted_lake(str(tmp_path_factory.mktemp("counted")), n_sequences=60).lake
    config = SamplingConfig(window_tokens=16, min_windows=35, workers=2)
    with crew_for(lake, CAPTURE, config, hookpoint=HOOKPOINT) as crew:
        counting.statistics(crew, UNITS)
    return lake


def test_rows_are_made_once_and_the_same_in_groups_of_any_size(tmp_path, counted, monkeypatch):
    config = SamplingConfig(window_tokens=16, min_windows=35, workers=2)
    lake = planted_lake(str(tmp_path), n_sequences=60).lake
    monkeypatch.setattr(counting, "_ROWS_WORTH_IT", 1)
    monkeypatch.setattr(counting, "_ROWS_AT_ONCE", 500)
    assert statistics_unit(lake, UNITS[1], config).is_new
    with crew_for(lake, CAPTURE, config, hookpoint=HOOKPOINT) as crew:
        first = counting.statistics(crew, UNITS)
        version = lake.version("latents")
        again = counting.statistics(crew, UNITS)
    assert [unit.is_new for unit in first] == [True, False, True]
    assert not any(unit.is_new for unit in again)
    assert [(u.n_ok, u.n_rare, u.n_dead, u.n_dense) for u in first] == [
        (u.n_ok, u.n_rare, u.n_dead, u.n_dense) for u in again
    ]
    assert lake.version("latents") == version
    assert lake.rows("latents") == counted.rows("latents")


def test_other_thresholds_or_more_tokens_make_the_rows_anew(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=20).lake
    config = SamplingConfig(window_tokens=16)
    assert statistics_unit(lake, UNITS[0], config).is_new
    assert not statistics_unit(lake, UNITS[0], config).is_new
    dense = config.model_copy(update={"dense_above": 0.001})
    assert statistics_unit(lake, UNITS[0], dense).n_dense > 1


def chosen(lake, **values):
    config = SamplingConfig(window_tokens=16, min_windows=35, **values)
    return [i for unit in units(lake, CAPTURE) for i in selected_latents(lake, unit, config)]


def test_latents_are_chosen_by_list_condition_and_number(counted):
    rows = {row["latent"]: row for row in counted.rows("latents")}
    enough = [i for i, row in rows.items() if row["n_windows"] >= 35]
    rare = [i for i, row in rows.items() if row["n_windows"] < 35]
    assert chosen(counted) == enough
    assert rare
    assert chosen(counted, latents=(7, *rare, 7)) == sorted({7, *rare})
    below = [i for i in enough if rows[i]["density"] < 0.02]
    assert 0 < len(below) < len(enough)
    assert chosen(counted, where="density < 0.02") == below
    assert chosen(counted, where="density < 0.02", latents="0-6") == [
        i for i in rows if i <= 6 and rows[i]["density"] < 0.02
    ]
    two = chosen(counted, where="density < 0.02", max_latents=2)
    assert len(two) == 2
    assert set(two) <= set(below)
    assert two == chosen(counted, where="density < 0.02", max_latents=2)
    assert len({tuple(chosen(counted, max_latents=3, seed=s)) for s in range(8)}) > 3
    assert len(chosen(counted, latents=(1, 2, 3), max_latents=2)) == 2
    assert chosen(counted, where="top_tokens[1].pmi > 100") == []


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("densty > 1", r'column "densty" not found.*columns of latents: .*density'),
        ("density", "is DOUBLE, not true or false; compare columns: latent"),
        ("density > 0; DROP TABLE latents", "more than one statement"),
        ("true) UNION SELECT 1 --", "syntax error"),
        ("true, true", "single expression"),
        ("max > 1 AND", "syntax error"),
        ("count(*) > 1", "cannot contain aggregates"),
        ("EXISTS (FROM read_text('/etc/hostname'))", "disabled|[Pp]ermission|not allowed"),
    ],
)
def test_a_condition_that_is_none_is_refused_in_one_line(counted, condition, said):
    with pytest.raises(ConfigError, match=said) as caught:
        chosen(counted, where=condition)
    assert str(caught.value).startswith("sampling.where: ")
    assert "\n" not in str(caught.value)


def test_a_wrong_condition_is_found_before_anything_is_counted(tmp_path):
    lake = planted_lake(str(tmp_path), n_sequences=5).lake
    wrong = SamplingConfig(where="densty > 1")
    with pytest.raises(ConfigError, match=r"sampling\.where"):
        sample(lake, Config(sampling=wrong))
    assert not lake.files("latents")


def test_latents_outside_the_coder_are_named(counted):
    with pytest.raises(ConfigError, match=r"has latents 0 to 11, not 12, 13, 14, 15, 16, …"):
        chosen(counted, latents="3,12-99")


def test_latents_are_read_as_numbers_and_ranges():
    def read(text):
        return load(overrides=[f"sampling.latents={text}"]).sampling.latents

    assert read("0-3, 7") == read('["0-3", 7]') == (0, 1, 2, 3, 7)
    assert read("5") == read("[5]") == (5,)
    with pytest.raises(ConfigError, match=r"sampling.latents: write numbers and ranges"):
        read("many")
    for nothing in ("5-2", "1,9-3", "0-99999999999"):
        with pytest.raises(ConfigError, match=r"sampling.latents: '.*' names no latents, or more"):
            read(nothing)


@pytest.mark.parametrize("command", ["sample", "explain", "score", "run", "plan"])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--where", "densty > 1", 'sampling.where: .* column "densty" not found'),
        ("--latents", "7-3", "sampling.latents: '7-3' names no latents"),
        ("--max-latents", "0", "sampling.max_latents: .* greater than 0"),
    ],
)
def test_every_command_that_works_on_latents_refuses_a_wrong_choice_in_one_line(
    counted, capsys, command, option, value, said
):
    options = ["--set", "explain.explainer=pattern", "--set", 'score.scorers=["pattern"]']
    assert cli.run([command, "--lake", counted.root, option, value, *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.match(f"error: {said}", line)


def test_a_choice_of_nothing_is_said(counted, capsys):
    window = ["--set", "sampling.window_tokens=16", "--set", "sampling.min_windows=35"]
    assert cli.run(["sample", "--lake", counted.root, *window, "--where", "density > 2"]) == 0
    assert "no latent fulfils sampling.latents, sampling.where" in capsys.readouterr().out
    assert cli.run(["sample", "--lake", counted.root, *window, "--latents", "1-2"]) == 0
    assert "1 of 2 latents chosen: fires in fewer windows than" in capsys.readouterr().out


def test_the_choice_of_latents_changes_no_example():
    plain = SamplingConfig()
    narrow = SamplingConfig(latents="0-9", where="max > 1", max_latents=3, workers=5)
    assert narrow.sample == plain.sample
