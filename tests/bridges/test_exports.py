"""Pages, records and tables of latents, as other tools read them."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml

from lakeinterp import bridges
from lakeinterp.bridges.base import Export, Import, Names
from lakeinterp.bridges.files import cantor
from lakeinterp.bridges.folders import MARK
from lakeinterp.bridges.neuronpedia import upload
from lakeinterp.bridges.strongest import N_TOP
from lakeinterp.cli import run
from lakeinterp.config import Config
from lakeinterp.errors import ConfigError
from lakeinterp.lake import Lake, queries
from tests.bridges import told

STRONGEST = "SELECT value FROM activations WHERE latent = 0 ORDER BY value DESC LIMIT 60"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return told.lake(str(tmp_path_factory.mktemp("told") / "lake"))


def options(path, **more):
    return Export(path=path, n_logits=0, config=told.SETTINGS, **more)


def jsonl(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_statements_say_what_plain_python_says(lake):
    rows = {name: lake.rows(name) for name in ("explanations", "scores", "judgements", "examples")}
    newest = {}
    for row in sorted(rows["explanations"], key=lambda r: r["created_at"]):
        newest[row["latent"], row["explainer"]] = row
    nothing = {"explainer": None, "latents": None}
    with lake.connect() as con:

        def result(name, **values):
            return queries.load(f"bridges/{name}").table(con, **told.SCOPE, **values).to_pylist()

        assert [r["explanation"] for r in result("standing", **nothing)] == [
            row["explanation"] for _, row in sorted(newest.items())
        ]
        only = result("standing", explainer="default", latents=[1, 3])
        assert [(r["latent"], r["text"]) for r in only] == [(1, told.LONG), (3, None)]
        held = {(r["latent"], r["sample"]) for r in rows["examples"]}
        (sampled,) = result("samples")
        assert (sampled["sample"], sampled["n_examples"]) == (
            next(iter(held))[1], len(rows["examples"]),
        )  # fmt: skip
        said = result("told", **nothing)
        density = {r["latent"]: r["density"] for r in lake.rows("latents")}
        assert [(r["explanation"], r["density"]) for r in said] == [
            (row["explanation"], density[latent]) for (latent, _), row in sorted(newest.items())
        ]
        scored = result("measured", **nothing)
        assert [(r["explanation"], r["metric"], r["value"]) for r in scored] == [
            ("1", "accuracy", 0.75), ("1", "tpr", 0.75),
        ]  # fmt: skip
        items = result("judged_items", explainer="default", latents=None)
        shown = {r["example"]: r for r in rows["examples"] if r["latent"] == 0}
        mine = [r for r in rows["judgements"] if (r["explanation"], r["settings"]) == ("1", "new")]
        assert [(r["item"], r["prediction"], r["tokens"]) for r in items] == [
            (r["item"], r["prediction"], shown[r["example"]]["tokens"])
            for r in sorted(mine, key=lambda r: r["item"])
        ]


def test_a_source_holds_latents_windows_and_explanations(lake, tmp_path):
    names = Names(model="tiny", source_set="res", release="r", creator="me", method="m")
    done = bridges.exporter("neuronpedia")(lake, options(tmp_path / "out", names=names))
    folder = tmp_path / "out" / "tiny" / "0-res"
    features = jsonl(folder / "features" / "batch-0.jsonl.gz")
    drawn = {r["latent"] for r in lake.rows("examples")} | {0, 1, 3}
    assert [int(row["index"]) for row in features] == sorted(drawn)
    counted = {r["latent"]: r for r in lake.rows("latents")}
    for row in features:
        latent = counted[int(row["index"])]
        assert row["frac_nonzero"] == latent["density"]
        assert row["maxActApprox"] == latent["max"]
        assert sum(row["freq_hist_data_bar_heights"]) == latent["n_activations"]
    windows = jsonl(folder / "activations" / "batch-0.jsonl.gz")
    active = [r for r in lake.rows("examples") if r["stratum"] == "activating"]
    assert len(windows) == done.n_rows > len(active)
    assert len({row["id"] for row in windows}) == len(windows)
    assert all(len(row["id"]) == 25 for row in windows)
    for row in windows:
        assert row["maxValue"] == max(row["values"]) == row["values"][row["maxValueTokenIndex"]]
        assert len(row["tokens"]) == len(row["values"]) <= 8
    of_cat = [row for row in windows if row["index"] == "0"]
    peaks = [row["maxValue"] for row in of_cat if row["binContains"] == -1]
    strengths = [value for (value,) in lake.sql(STRONGEST).fetchall()]
    assert len(peaks) == N_TOP
    assert peaks[0] == strengths[0]
    assert set(peaks) <= set(strengths)
    assert min(peaks) >= max(row["maxValue"] for row in of_cat if row["binContains"] != -1)
    assert all(row["tokens"][row["maxValueTokenIndex"]] == " cat" for row in of_cat)
    said = jsonl(folder / "explanations" / "batch-0.jsonl.gz")
    assert [(row["index"], row["description"]) for row in said] == [
        ("0", "fires on cat"), ("1", told.LONG), ("1", "fires after `the`"),
    ]  # fmt: skip
    about = {name: json.loads((folder / f"{name}.jsonl").read_text()) for name in
             ("release", "model", "sourceset", "source")}  # fmt: skip
    assert about["source"]["id"] == features[0]["layer"] == "0-res"
    assert about["source"]["setName"] == about["sourceset"]["name"] == "res"
    assert about["release"]["name"] == about["sourceset"]["releaseName"] == "r"


def test_explanations_of_a_source_are_read_back(lake, tmp_path):
    bridges.exporter("neuronpedia")(lake, options(tmp_path / "out"))
    again = Lake(str(tmp_path / "again"))
    read = bridges.importer("neuronpedia-explanations")
    done = read(again, Import(path=tmp_path / "out", hookpoints=("layers.0",)))
    assert done.n_rows == 3
    rows = again.sql("SELECT hookpoint, latent, text FROM explanations ORDER BY ALL").fetchall()
    long = " ".join(told.LONG.split())
    expected = [(0, "fires on cat"), (1, "fires after `the`"), (1, long)]
    assert rows == [("layers.0", latent, text) for latent, text in expected]


def test_upload_bodies_keep_to_what_the_call_accepts(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "N_FEATURES", 4)
    monkeypatch.setattr(upload, "N_TOKENS", 5)
    names = Names(method="m", explanation_model="e")
    write = bridges.exporter("neuronpedia-upload")
    done = write(lake, options(tmp_path / "out", names=names))
    bodies = [json.loads(p.read_text()) for p in sorted((tmp_path / "out").glob("*/*.json"))]
    assert len(bodies) > 1
    features = [feature for body in bodies for feature in body["features"]]
    assert all(len(body["features"]) <= 4 and body["source"] == "0-planted-res" for body in bodies)
    for feature in features:
        assert feature["activations"]
        for window in feature["activations"]:
            assert len(window["tokens"]) == len(window["values"]) <= 5
            assert max(window["values"]) > 0
    texts = [one["text"] for feature in features for one in feature["explanations"]]
    assert max(map(len, texts)) == upload.N_LETTERS
    assert any("cut 1 explanations to 512 letters" in line for line in done.said)
    done = write(lake, options(tmp_path / "silent"))
    assert any("left out 3 explanations: give --explanation-method" in line for line in done.said)


def test_circuit_pages_and_neuron_records_hold_the_strongest_and_the_drawn_windows(lake, tmp_path):
    bridges.exporter("circuit-tracer")(lake, options(tmp_path / "c", names=Names(layer=2)))
    page = json.loads((tmp_path / "c/features/planted" / f"{cantor(2, 0)}.json").read_text())
    groups = page["examples_quantiles"]
    assert groups[0]["quantile_name"] == "Top activations"
    active = lake.rows("examples", "latent = 0 AND stratum = 'activating'")
    assert len(groups[0]["examples"]) == N_TOP
    assert sum(len(group["examples"]) for group in groups) > len(active)
    for group in groups:
        for example in group["examples"]:
            assert example["tokens"][example["train_token_ind"]] == " cat"
    bridges.exporter("openai-neurons")(lake, options(tmp_path / "n"))
    record = json.loads((tmp_path / "n/neurons/0/0.json").read_text())
    silent = lake.rows("examples", "latent = 0 AND stratum = 'random'")
    assert len(record["random_sample"]) == len(silent) > 0
    assert all(sum(one["activations"]) == 0 for one in record["random_sample"])
    groups = record["random_sample_by_quantile"]
    assert sum(map(len, groups)) == len(active)
    for low, group in zip(record["quantile_boundaries"], groups, strict=True):
        assert low == min(max(one["activations"]) for one in group)
    peaks = [max(one["activations"]) for one in record["most_positive_activation_records"]]
    assert peaks == sorted(peaks, reverse=True)


def test_every_pair_of_layer_and_latent_has_a_number_of_its_own():
    pairs = [(layer, latent) for layer in range(30) for latent in range(30)]
    assert len({cantor(*pair) for pair in pairs}) == len(pairs)
    assert (cantor(0, 0), cantor(1, 0), cantor(0, 1), cantor(2, 3)) == (0, 1, 2, 18)


def test_tables_are_the_same_rows_in_every_form(lake, tmp_path):
    for form in ("csv", "jsonl", "parquet"):
        bridges.exporter(form)(lake, options(tmp_path / form))
    rows = pq.read_table(tmp_path / "parquet/explanations.parquet").to_pylist()
    assert [row["text"] for row in rows] == ["fires on cat", told.LONG, "fires after `the`", None]
    lines = (tmp_path / "jsonl/explanations.jsonl").read_text().splitlines()
    as_json = [json.loads(line) for line in lines]
    with (tmp_path / "csv/explanations.csv").open(newline="") as file:
        as_csv = list(csv.DictReader(file))
    for parquet, one, other in zip(rows, as_json, as_csv, strict=True):
        assert one == parquet | {"created_at": parquet["created_at"].isoformat()}
        assert (other["text"] or None, int(other["latent"])) == (parquet["text"], parquet["latent"])
    assert len(pq.read_table(tmp_path / "parquet/scores.parquet")) == 2


def test_a_dataset_folder_opens_without_a_network(lake, tmp_path):
    bridges.exporter("dataset")(lake, options(tmp_path / "out"))
    _, front, text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    held = yaml.safe_load(front)
    assert [one["config_name"] for one in held["configs"]] == ["explanations", "scores"]
    assert all(f"| `{name}` |" in text for name in ("text", "ci_low", "null_value"))
    code = (
        "import os, sys; os.environ.update(HF_HUB_OFFLINE='1', HF_HOME=sys.argv[2]); "
        "from datasets import load_dataset; "
        "print(*(load_dataset(sys.argv[1], n, split='train').num_rows "
        "for n in ('explanations', 'scores')))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "out"), str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.split()[-2:] == ["4", "2"]


def test_what_is_there_is_only_replaced_when_told_and_only_what_an_export_wrote(lake, tmp_path):
    write = bridges.exporter("csv")
    write(lake, options(tmp_path / "out"))
    with pytest.raises(
        ConfigError, match=r"holds explanations\.csv already; choose another folder"
    ):
        write(lake, options(tmp_path / "out"))
    (tmp_path / "out" / "stale.csv").touch()
    write(lake, options(tmp_path / "out", overwrite=True))
    found = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert found == ["explanations.csv", MARK, "scores.csv"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"was not written by `lakeinterp export`"):
        write(lake, options(tmp_path / "mine", overwrite=True))
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_an_export_that_fails_leaves_nothing(lake, tmp_path, monkeypatch):
    from lakeinterp.bridges import tables

    def fails(places, files, counts):
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "card", fails)
    with pytest.raises(KeyboardInterrupt):
        bridges.exporter("dataset")(lake, options(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_latents_are_chosen_as_everywhere(lake, tmp_path):
    chosen = Config.model_validate(
        {"sampling": {**told.SETTINGS.sampling.model_dump(), "latents": [1, 2]}}
    )
    write = bridges.exporter("neuronpedia")
    write(lake, Export(path=tmp_path / "out", n_logits=0, config=chosen))
    rows = jsonl(next((tmp_path / "out").rglob("features/*.gz")))
    assert [row["index"] for row in rows] == ["1", "2"]
    with pytest.raises(ConfigError, match="by default, pattern: say by which"):
        bridges.exporter("delphi-results")(lake, options(tmp_path / "d"))


def test_judgements_are_delphis_files(lake, tmp_path):
    write = bridges.exporter("delphi-results")
    write(lake, options(tmp_path / "out", explainer="default"))
    items = json.loads((tmp_path / "out/scores/fuzz/layers.0_latent0.txt").read_text())
    shown = lake.rows("examples", "latent = 0 AND role = 'score'")
    assert len(items) == len(shown)
    for one, row in zip(items, shown, strict=True):
        assert one["activations"] == row["values"]
        assert one["distance"] == (row["quantile"] - 1 if row["quantile"] else -1)
        assert one["activating"] == (row["stratum"] == "activating")
    said = json.loads((tmp_path / "out/explanations/layers.0_latent0.txt").read_text())
    assert said == "fires on cat"


def test_the_command_says_what_it_wrote_and_what_it_needs(lake, tmp_path, capsys):
    asked = ["export", "neuronpedia", str(tmp_path / "out"), "--lake", lake.root]
    assert run(asked) == 2
    assert "--n-logits 0 does without output tokens" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    assert run([*asked, "--n-logits", "0", "--latents", "0-1"]) == 0
    assert "exported 2 latents with" in " ".join(capsys.readouterr().out.split())
    cache = ["export", "delphi", str(tmp_path / "cache"), "--lake", lake.root]
    assert run([*cache, "--latents", "0"]) == 2
    assert "a cache holds all latents" in " ".join(capsys.readouterr().err.split())
    assert run(cache) == 0
    assert run(cache) == 2
    assert "is written already" in " ".join(capsys.readouterr().err.split())
    assert run([*cache, "--overwrite"]) == 0
