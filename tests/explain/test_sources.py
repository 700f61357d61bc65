"""Explanations made elsewhere: files of every form, folders of delphi, lakes; faults are said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp import pipeline
from lakeinterp.config import ExplainConfig
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.explain import sources
from lakeinterp.explain.loaded import LoadedExplainer
from lakeinterp.lake import Lake
from tests.planted import CAPTURE
from tests.score.planted_examples import planted_config, sampled_lake

TEXTS = {("layers.0", 3): "cats", ("layers.0", 5): 'says, "so"', ("layers.1", 3): "a\nb"}
ROWS = [
    {"hookpoint": hookpoint, "latent": latent, "explanation": text}
    for (hookpoint, latent), text in TEXTS.items()
]


def csv_of(rows, separator=","):
    quoted = [[str(v).replace('"', '""') for v in row.values()] for row in rows]
    lines = [separator.join(rows[0]), *(separator.join(f'"{c}"' for c in row) for row in quoted)]
    return "\n".join(lines) + "\n"


FORMS = {
    "a.csv": csv_of(ROWS),
    "a.tsv": csv_of(ROWS, "\t"),
    "a.json": json.dumps(ROWS),
    "a.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n\n",
    "nested.json": json.dumps(
        {"layers.0": {"3": "cats", "5": 'says, "so"'}, "layers.1": {"3": "a\nb"}}
    ),
    "others.json": json.dumps(
        [{"layer": h, "index": str(i), "description": t} for (h, i), t in TEXTS.items()]
    ),
    "bom.csv": "\N{ZERO WIDTH NO-BREAK SPACE}" + csv_of(ROWS),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_file_gives_the_same_explanations(tmp_path, name):
    path = tmp_path / name
    path.write_text(FORMS[name], encoding="utf-8")
    source = sources.read(str(path), None)
    assert {i: f.text for i, f in source.of("c", "layers.0", 2).items()} == {
        3: "cats",
        5: 'says, "so"',
    }
    assert source.of("c", "layers.1", 2)[3].text == "a b"
    assert source.of("c", "layers.2", 2) == {}


def test_what_delphi_wrote_is_read_and_cut_where_the_model_ran_on(tmp_path):
    folder = tmp_path / "explanations"
    folder.mkdir()
    run_on = "Trends in trade.\n\nExample 2: a <<b>>\n[EXPLANATION]: Another one.\n\nExample 3: c"
    for name, text in {
        "layers.0_latent7.txt": json.dumps("cats"),
        "layers.0_latent8.txt": json.dumps(run_on),
        "layers.0_latent9.txt": json.dumps("Explanation could not be parsed."),
        ".model.layers.1_feature12.txt": "not JSON but a text",
        "layers.0_latent10.txt": json.dumps(""),
        "notes.txt": "no explanation",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    for place in (tmp_path, folder):
        source = sources.read(str(place), None)
        found = source.of("c", "layers.0", 2)
        assert {i: f.text for i, f in found.items()} == {
            7: "cats",
            8: "Trends in trade.",
            9: "",
            10: "",
        }
        assert source.of("c", "model.layers.1", 2)[12].text == "not JSON but a text"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "latent,explanation\n1,a\n1,b\n", "two explanations of latent 1"),
        ("a.csv", "hookpoint,latent,explanation\nh,1,a\nh,1,a\n", "two explanations of h#1"),
        ("a.csv", "number,explanation\n1,a\n", "row 1: give every row a `latent`"),
        ("a.csv", "latent,explanation\nx,a\n", "row 1: give every row a `latent`.*'latent': 'x'"),
        ("a.csv", "latent,explanation\n-1,a\n", "row 1: give every row a `latent`"),
        ("a.csv", "", "holds no explanations"),
        ("a.jsonl", '{"concept": "a", "ref": "m/s/1"}', "import neuronpedia-explanations"),
        ("a.json", "[1, 2]", "row 1 is no object"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "3", "row 1 is no object"),
        ("a.jsonl", '{"latent": 1, "explanation": "a"}\nno\n', "cannot be read"),
        (
            "a.json",
            '[{"latent": 1, "explanation": "a"}, '
            '{"hookpoint": "h", "latent": 2, "explanation": "b"}]',
            "some rows of .* lack a hookpoint",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        sources.read(str(path), None)


def test_a_file_without_hookpoints_is_of_the_only_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"4": "cats"}')
    source = sources.read(str(path), None)
    assert source.of("c", "any", 1)[4].text == "cats"
    with pytest.raises(ConfigError, match="c has 2: add `hookpoint` to every row"):
        source.of("c", "any", 2)


def test_a_source_that_is_not_there_or_not_named_is_said(tmp_path):
    with pytest.raises(NotFound, match=r"unknown file .*explain\.source"):
        sources.read(str(tmp_path / "none.csv"), None)
    with pytest.raises(ConfigError, match=r"explain\.source: say where"):
        LoadedExplainer(ExplainConfig())


def test_settings_follow_the_texts_and_not_where_they_are(tmp_path):
    def settings_of(name, text):
        (tmp_path / name).write_text(text)
        return LoadedExplainer(ExplainConfig(source=str(tmp_path / name))).settings

    first = settings_of("a.json", '{"1": "a"}')
    assert settings_of("b.csv", "latent,explanation\n1,a\n") == first
    assert settings_of("a.json", '{"1": "b"}') != first


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.dictionaries(st.integers(0, 99), st.text(min_size=1), min_size=1, max_size=5))
def test_any_text_comes_through_a_file_on_one_line(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    rows = ({"latent": i, "explanation": text} for i, text in texts.items())
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = sources.read(str(path), None).of("c", "h", 1)
    assert {i: f.text for i, f in found.items()} == {
        i: " ".join(text.split()) for i, text in texts.items()
    }


def test_a_lakes_explanations_are_loaded_into_another_and_into_itself(tmp_path):
    config = planted_config(sampling={"latents": "0-3"})
    for name in ("one", "two"):
        sampled_lake(tmp_path / name, config, n_sequences=60, n_latents=4, n_buckets=1)
    config = config.model_copy(update={"lake": str(tmp_path / "one")})
    pipeline.explain(config, run="first")
    with pytest.raises(NotFound, match="unknown explainer 'default'"):
        sources.read(str(tmp_path / "one"), "default")
    for name in ("one", "two"):
        loading = config.explain.model_copy(
            update={"explainer": "loaded", "source": str(tmp_path / "one")}
        )
        there = config.model_copy(update={"lake": str(tmp_path / name), "explain": loading})
        for _ in range(2):
            pipeline.explain(there, run="loaded")
        rows = {
            r["latent"]: r
            for r in Lake(str(tmp_path / name)).rows("explanations")
            if r["run"] == "loaded"
        }
        own = {
            r["latent"]: r
            for r in Lake(str(tmp_path / "one")).rows("explanations")
            if r["run"] == "first"
        }
        assert {i: r["text"] for i, r in rows.items()} == {i: r["text"] for i, r in own.items()}
        assert {r["status"] for r in rows.values()} == {"ok", "not_applicable"}
        assert json.loads(rows[0]["detail"])["explanation"] == own[0]["explanation"]


def test_which_explainer_is_meant_is_asked_where_there_are_several(tmp_path):
    config = planted_config().model_copy(update={"lake": str(tmp_path / "lake")})
    sampled_lake(tmp_path / "lake", config, n_sequences=60, n_latents=4, n_buckets=1)
    lake = Lake(config.lake)
    with pytest.raises(ConfigError, match="has no explanations yet"):
        sources.only_explainer(lake, None)
    for explainer in ("pattern", "constant"):
        explain = config.explain.model_copy(update={"explainer": explainer})
        pipeline.explain(config.model_copy(update={"explain": explain}), run="one")
    assert sources.only_explainer(lake, None) == "pattern"
    assert sources.only_explainer(lake, "constant") == "constant"
    rows = [
        r | {"explainer": "mine", "explanation": f"m{i}"}
        for i, r in enumerate(lake.rows("explanations", "explainer = 'pattern'"))
    ]
    lake.upsert("explanations", rows, scope={"capture": CAPTURE})
    with pytest.raises(ConfigError, match="has explanations by mine, pattern: say whose to take"):
        sources.only_explainer(lake, None)


def test_a_label_that_is_null_is_an_empty_one_and_the_others_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"feature": 1, "annotation": null}\n{"feature": 2, "annotation": "b"}\n')
    found = sources.read(str(path), None).of("c", "any", 1)
    assert {i: f.text for i, f in found.items()} == {1: "", 2: "b"}


def test_a_folder_in_which_a_file_was_edited_is_read_again(tmp_path):
    file = tmp_path / "layers.0_latent7.txt"
    file.write_text('"cats"')
    before = sources.read(str(tmp_path), None)
    file.write_text('"dogs and more"')
    after = sources.read(str(tmp_path), None)
    assert after.of("c", "layers.0", 1)[7].text == "dogs and more"
    assert after.digest != before.digest
