"""Dashboards and explanations of other tools: read a piece at a time, refused in one line."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeinterp import bridges
from lakeinterp.bridges import texts
from lakeinterp.bridges.base import Import
from lakeinterp.cli import run
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import Lake
from tests import planted

read = bridges.importer("saedashboard")
explained = bridges.importer("neuronpedia-explanations")


def window(tokens, values, bins=(-1, 3.0, -1)):
    low, high, share = bins
    return {"tokens": tokens, "values": values, "bin_min": low, "bin_max": high,
            "bin_contains": share, "qualifying_token_index": 0, "dfa_values": []}  # fmt: skip


def page(latent, windows, **more):
    return {
        "feature_index": latent, "frac_nonzero": 0.01, "n_prompts_total": 100,
        "n_tokens_in_prompt": 10, "freq_hist_data_bar_values": [0.5, 1.5, 2.5],
        "freq_hist_data_bar_heights": [6, 3, 1], "correlated_features_indices": [latent, 9],
        "correlated_features_pearson": [1.0, 0.25], "activations": windows, **more,
    }  # fmt: skip


LOW = (0, 1, 0.9)
PAGES = [
    page(5, [window([" a", " cat"], [0.0, 3.0]), window([" a", " cat"], [0.0, 3.0], (2, 3, 0.1)),
             window([" the", " cat"], [0.0, 1.0], LOW), window([" a"], [0.0], LOW)]),
    page(7, [], frac_nonzero=0.0),
]  # fmt: skip


def put(path, pages=PAGES, **head):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"model_id": "tiny", "layer": 3, "sae_set": "res-xx", **head}
    path.write_text(json.dumps({**head, "features": pages}))
    return path


def test_a_dashboard_gives_windows_and_figures_and_no_more(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    done = read(lake, Import(path=put(tmp_path / "batch-0.json", sae_id_suffix="l0-9")))
    assert (done.capture, done.hookpoints) == ("tiny-3-res-xx__l0-9", ("3-res-xx__l0-9",))
    assert (done.n_rows, done.n_dropped) == (3, 1)
    rows = lake.rows("examples")
    assert [(r["latent"], r["quantile"], r["peak"], r["peak_offset"]) for r in rows] == [
        (5, 1, 3.0, 1), (5, 2, 3.0, 1), (5, 3, 1.0, 1),
    ]  # fmt: skip
    words = lake.vocabulary(lake.capture()["tokenizer"])
    assert [words.pieces(r["tokens"]) for r in rows] == [
        (" a", " cat"), (" a", " cat"), (" the", " cat"),
    ]  # fmt: skip
    assert rows[0]["document"] == rows[1]["document"] != rows[2]["document"]
    alive, dead = lake.rows("latents")
    assert (alive["n_activations"], alive["n_tokens"], alive["max"]) == (10, 1000, 3.0)
    assert [(b["low"], b["high"], b["count"]) for b in alive["histogram"]] == [
        (0, 1, 6), (1, 2, 3), (2, 3, 1),
    ]  # fmt: skip
    assert (alive["status"], dead["status"]) == ("ok", "dead")
    near = [(r["latent"], r["neighbour"], r["similarity"]) for r in lake.rows("neighbours")]
    assert near == [(5, 9, 0.25), (7, 9, 0.25)]
    assert not lake.files("activations")


def test_what_was_read_is_not_read_again_and_further_batches_are(tmp_path):
    lake, folder = Lake(str(tmp_path / "lake")), tmp_path / "boards"
    put(folder / "batch-0.json")
    options = Import(path=folder, name="boards")
    assert read(lake, options).is_new
    versions = {name: lake.version(name) for name in lake.tables()}
    assert not read(lake, options).is_new
    assert {name: lake.version(name) for name in lake.tables()} == versions
    put(folder / "batch-1.json", [page(300, [window([" a", " cat"], [2.0, 0.0])])])
    put(folder / "batch-2.json", layer=4)
    with pytest.raises(ConfigError, match=r"batch-2.json is of .*'layer': 4"):
        read(lake, options)
    (folder / "batch-2.json").unlink()
    assert read(lake, options).n_rows == 1
    assert {r["latent"] for r in lake.rows("examples")} == {5, 300}


def test_a_dashboard_can_be_explained(tmp_path, capsys):
    lake = str(tmp_path / "lake")
    windows = [window([f" w{i}", " cat"], [0.0, 1.0 + i]) for i in range(12)]
    put(tmp_path / "batch-0.json", [page(5, windows)])
    assert run(["import", "saedashboard", str(tmp_path / "batch-0.json"), "--lake", lake]) == 0
    assert "nothing can be scored" in " ".join(capsys.readouterr().out.split())
    assert run(["explain", "--explainer", "pattern", "--latents", "5", "--lake", lake]) == 0
    ((text, status),) = Lake(lake).sql("SELECT text, status FROM explanations").fetchall()
    assert status == "ok"
    assert "cat" in text


def test_strings_are_looked_up_in_the_vocabulary_of_a_capture(tmp_path):
    lake = planted.planted_lake(str(tmp_path / "lake"), n_sequences=10).lake
    options = {"name": planted.CAPTURE, "hookpoints": (planted.HOOKPOINT,)}
    read(lake, Import(path=put(tmp_path / "batch-0.json"), **options))
    rows = lake.rows("examples", "latent = 5")
    assert [planted.WORDS[token] for token in rows[2]["tokens"]] == ["the", "cat"]
    assert not lake.rows("latents")  # they are counted here, not taken from a dashboard
    strange = put(tmp_path / "batch-1.json", [page(5, [window([" a", "Ġzebra"], [0.0, 1.0])])])
    with pytest.raises(ConfigError, match=r"1 of 2 strings are no tokens .* another model"):
        read(lake, Import(path=strange, **options))
    wide = put(tmp_path / "batch-2.json", [page(12, [window([" a"], [1.0])])])
    with pytest.raises(ConfigError, match=r"has 12 latents at layers\.0, the files speak of"):
        read(lake, Import(path=wide, **options))


def test_bytes_and_halves_of_characters_become_text(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    spelled = ["It", "âĢ", "Ļ", "s", " ", "caf", "Ã©"]  # how byte-level tokenizers print bytes
    windows = [window(spelled, [1.0] * 7)]
    read(lake, Import(path=put(tmp_path / "batch-0.json", [page(1, windows)])))
    (row,) = lake.rows("examples")
    words = lake.vocabulary(lake.capture()["tokenizer"])
    assert words.text(row["tokens"]) == "It’s café"
    halves = put(
        tmp_path / "batch-1.json", [page(1, [window(["\ud83d\ude00", "\ud83d"], [1.0, 0.0])])]
    )
    assert "\\ud83d" in halves.read_text()
    other = Lake(str(tmp_path / "other"))
    read(other, Import(path=halves))
    (row,) = other.rows("examples")
    words = other.vocabulary(other.capture()["tokenizer"])
    assert words.pieces(row["tokens"]) == ("\U0001f600", "\ufffd")


BROKEN = {
    "cut off": (lambda text: text[:-20], "cannot be read as JSON"),
    "a list": (lambda text: "[1, 2]", "expected '{', found '['"),
    "no pages": (lambda text: '{"features": []}', "holds no dashboards"),
    "other keys": (lambda text: '{"prompts": []}', "holds no dashboards"),
    "no number": (lambda text: '{"features": [{"index": 1}]}', "a page without `feature_index`"),
    "lengths": (
        lambda text: text.replace("[0.0, 1.0]", "[0.0]"), "feature 5, window 2: expected `tokens`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_dashboard_is_one_line_and_no_capture(tmp_path, name):
    breaks, match = BROKEN[name]
    path = put(tmp_path / "batch-0.json")
    path.write_text(breaks(path.read_text()))
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(ConfigError, match=match.replace("[", r"\[")) as caught:
        read(lake, Import(path=path))
    assert "\n" not in str(caught.value)
    assert not lake.rows("captures")
    with pytest.raises(NotFound, match="there is no such file"):
        read(lake, Import(path=tmp_path / "nowhere.json"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    before=st.dictionaries(st.text(max_size=4), JSON, max_size=3),
    elements=st.lists(JSON, max_size=5),
    after=st.dictionaries(st.text(max_size=4), JSON, max_size=2),
    indent=st.sampled_from([None, 2]), chunk=st.integers(1, 9),
)  # fmt: skip
def test_a_long_list_is_read_a_piece_at_a_time(
    before, elements, after, indent, chunk, tmp_path_factory
):
    whole = {**before, "features": elements, **after}
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(whole, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "_CHUNK", chunk)
        found = list(texts.members(path, "features"))
    assert [m.value for m in found if m.name == "features"] == elements
    others = {name: value for name, value in whole.items() if name != "features"}
    assert {m.name: m.value for m in found if m.name != "features"} == others


def test_memory_does_not_grow_with_the_length_of_a_list(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "_CHUNK", 2**16)
    path = tmp_path / "long.json"
    element = json.dumps(page(1, [window(["a"] * 50, [0.5] * 50)] * 20))
    path.write_text('{"features": [' + ",".join([element] * 200) + "]}")
    tracemalloc.start()
    assert sum(1 for _ in texts.members(path, "features")) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 2_500_000
    assert peak < 600_000


def test_explanations_of_axbench_and_neuronpedia_are_read(tmp_path):
    rows = [
        {"concept": "dates", "ref": "https://www.neuronpedia.org/tiny/10-res-16k/14"},
        {"concept": "audio \ud83d gear", "ref": "https://www.neuronpedia.org/tiny/10-res-16k/12"},
    ]
    path = tmp_path / "concepts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    lake = Lake(str(tmp_path / "lake"))
    done = explained(lake, Import(path=path))
    assert (done.capture, done.hookpoints, done.n_rows) == ("tiny-neuronpedia", ("10-res-16k",), 2)
    assert not explained(lake, Import(path=path)).is_new
    found = lake.sql("SELECT latent, text, explainer FROM explanations ORDER BY ALL").fetchall()
    assert found == [(12, "audio \ufffd gear", "axbench"), (14, "dates", "axbench")]
    bulk = tmp_path / "explanations" / "batch-0.jsonl.gz"
    bulk.parent.mkdir()
    rows = [{"modelId": model, "layer": "3-res", "index": "7", "description": f"of {model}",
             "typeName": "np_max-act"} for model in ("one", "two")]  # fmt: skip
    with gzip.open(bulk, "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    with pytest.raises(ConfigError, match=r"has explanations of one, two: choose one with --model"):
        explained(lake, Import(path=tmp_path / "explanations"))
    done = explained(lake, Import(path=tmp_path / "explanations", model="two"))
    assert done.capture == "two-neuronpedia"


WRONG = {
    "no json": ('{"concept": "x"', "line 1: cannot be read"),
    "a list": ("[1]", r"line 1: expected an object, not \[1\]"),
    "other keys": ('{"a": 1}', r"line 1: expected modelId, layer, index and description"),
    "no page": ('{"concept": "x", "ref": "https://a.b/c"}', r"line 1: expected modelId"),
    "nothing": ("\n", "holds no explanations"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_row_that_is_no_explanation_is_one_line(tmp_path, name):
    text, match = WRONG[name]
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=match):
        explained(Lake(str(tmp_path / "lake")), Import(path=tmp_path / "a.jsonl"))


def test_a_gzipped_file_that_is_cut_off_is_one_line(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"concept": "x"}\n' * 500)[:-30])
    with pytest.raises(ConfigError, match=r"a.jsonl.gz, line \d+: "):
        explained(Lake(str(tmp_path / "lake")), Import(path=path))
