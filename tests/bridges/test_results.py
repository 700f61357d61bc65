"""Results of delphi: its items are judgements, its figures are computed anew, files come back."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from lakeinterp import bridges
from lakeinterp.bridges.base import Export, Import
from lakeinterp.cli import run
from lakeinterp.errors import ConfigError, NotFound
from lakeinterp.lake import Lake
from tests import planted

read, write = bridges.importer("delphi-results"), bridges.exporter("delphi-results")


def item(truth, prediction, distance, n=4):
    return {
        "str_tokens": [f" w{i}" for i in range(n)], "activations": [0.0] * (n - 1) + [1.5 * truth],
        "distance": distance, "activating": truth, "prediction": prediction, "probability": None,
        "correct": None if prediction is None else prediction == truth,
    }  # fmt: skip


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def made(root, seed=0):
    """Write a run of three latents, one of a broken judge, and return its items by latent."""
    dice = random.Random(seed)
    items = {}
    for latent in (3, 17, 40):
        texts = [item(True, dice.random() < 0.8, q % 10) for q in range(20)]
        texts += [item(False, dice.random() < 0.3, -1.0) for _ in range(15)]
        texts += [item(False, dice.random() < 0.5, -0.75) for _ in range(5)]
        texts[dice.randrange(40)]["prediction"] = None
        dice.shuffle(texts)
        items[latent] = texts
    items[40] = [item(True, None, 2) for _ in range(8)]
    for latent, texts in items.items():
        for text in texts:
            if text["prediction"] is None:
                text["correct"] = None
        put(root / "explanations" / f"layers.3_latent{latent}.txt", f"latent {latent} fires")
        put(root / "scores" / "detection" / f"layers.3_latent{latent}.txt", texts)
    put(root / "run_config.json", {"model": "nobody/tiny", "sparse_model": "sae"})
    return items


def figures(lake):
    rows = lake.sql("SELECT latent, metric, value, n, n_failed, status FROM scores").fetchall()
    return {(latent, metric): rest for latent, metric, *rest in rows}


def share(found):
    said = [prediction for prediction in found if prediction is not None]
    return sum(said) / len(said)


def test_scores_are_computed_anew_from_the_judged_texts(tmp_path):
    items = made(tmp_path / "run")
    for texts in items.values():
        texts[0]["correct"] = not texts[0]["correct"]  # what the file says is not believed
    lake = Lake(str(tmp_path / "lake"))
    done = read(lake, Import(path=tmp_path / "run"))
    assert done.n_rows == 88
    found = figures(lake)
    for latent in (3, 17):
        true = [i["prediction"] for i in items[latent] if i["activating"]]
        false = [i["prediction"] for i in items[latent] if i["distance"] == -1]
        near = [i["prediction"] for i in items[latent] if i["distance"] == -0.75]
        assert found[latent, "tpr"][0] == pytest.approx(share(true))
        assert found[latent, "fpr"][0] == pytest.approx(share(false))
        assert found[latent, "fpr_neighbour"][0] == pytest.approx(share(near))
        expected = (share(true) + 1 - share(false)) / 2
        assert found[latent, "balanced_accuracy"][0] == pytest.approx(expected)
        assert sum(p is None for p in true + false) == found[latent, "accuracy"][2]
    assert found[40, "balanced_accuracy"][0] is None
    assert found[40, "tpr"] == [None, 0, 8, "parse_failed"]
    assert not any(metric.endswith("_natural") for _, metric in found)


def test_a_run_comes_back_as_it_was(tmp_path):
    made(tmp_path / "run")
    stored = "Words.\n\nExample 2: <<x>>\n[EXPLANATION]: More words."
    put(tmp_path / "run" / "explanations" / "layers.3_latent3.txt", stored)
    lake = Lake(str(tmp_path / "lake"))
    read(lake, Import(path=tmp_path / "run"))
    said = lake.sql("SELECT text FROM explanations WHERE latent = 3").fetchall()
    assert said == [("Words.",)]
    write(lake, Export(path=tmp_path / "out"))
    paths = sorted(p.relative_to(tmp_path / "run") for p in (tmp_path / "run").rglob("*.txt"))
    assert len(paths) == 6
    for path in [*paths, "run_config.json"]:
        before, after = (json.loads((tmp_path / d / path).read_text()) for d in ("run", "out"))
        assert after == before


def test_earlier_files_have_other_names_and_minus_one_for_a_failure(tmp_path):
    texts = [
        {"text": "a b", "distance": 1, "ground_truth": True, "prediction": 1, "highlighted": False},
        {"text": "c", "distance": -1, "ground_truth": False, "prediction": -1},
        {"text": "d", "distance": -1, "ground_truth": False, "prediction": 0, "probability": 0.25},
    ]
    put(tmp_path / "run" / "scores" / "fuzz" / "layers.1--mlp_feature5.txt", texts)
    lake = Lake(str(tmp_path / "lake"))
    done = read(lake, Import(path=tmp_path / "run", n_latents=64))
    assert done.hookpoints == ("layers.1/mlp",)
    rows = lake.sql(
        "SELECT scorer, stratum, quantile, prediction, probability, status FROM judgements "
        "ORDER BY item"
    ).fetchall()
    assert rows == [
        ("fuzzing", "activating", 2, True, None, "ok"),
        ("fuzzing", "random", None, None, None, "parse_failed"),
        ("fuzzing", "random", None, False, 0.25, "ok"),
    ]
    said = lake.sql("SELECT text, status FROM explanations").fetchall()
    assert said == [(None, "not_applicable")]
    assert lake.rows("hookpoints")[0]["n_latents"] == 64


def test_the_same_call_adds_nothing_and_new_files_stand_beside_the_old(tmp_path):
    made(tmp_path / "run")
    lake = Lake(str(tmp_path / "lake"))
    options = Import(path=tmp_path / "run", name="run")
    assert read(lake, options).is_new
    versions = {name: lake.version(name) for name in lake.tables()}
    again = read(lake, options)
    assert (again.is_new, again.n_rows) == (False, 0)
    assert {name: lake.version(name) for name in lake.tables()} == versions
    put(tmp_path / "run" / "scores" / "detection" / "layers.3_latent40.txt", [item(True, True, 0)])
    read(lake, options)
    with lake.connect() as con:
        rows = con.sql("SELECT latent, value FROM newest_scores('run') WHERE metric = 'tpr'")
        assert dict(rows.fetchall())[40] == 1.0
    assert lake.sql("SELECT count(*) FROM explanations WHERE latent = 40").fetchall() == [(2,)]


def test_results_stand_beside_ours_in_a_capture_that_has_the_latents(tmp_path):
    lake = planted.planted_lake(str(tmp_path / "lake"), n_sequences=10).lake
    items = [item(True, True, 0), item(False, False, -1)]
    put(tmp_path / "run" / "explanations" / "layers.0_latent1.txt", "after the")
    put(tmp_path / "run" / "scores" / "detection" / "layers.0_latent1.txt", items)
    done = read(lake, Import(path=tmp_path / "run", name=planted.CAPTURE))
    assert done.capture == planted.CAPTURE
    assert len(lake.rows("captures")) == 1
    put(tmp_path / "run" / "explanations" / "layers.0_latent12.txt", "no such latent")
    with pytest.raises(
        ConfigError, match=r"has 12 latents at layers.0, the files speak of latent 12"
    ):
        read(lake, Import(path=tmp_path / "run", name=planted.CAPTURE))
    put(tmp_path / "run" / "explanations" / "layers.9_latent1.txt", "no such place")
    with pytest.raises(ConfigError, match=r"has no hookpoint layers.9 \(it has layers.0\)"):
        read(lake, Import(path=tmp_path / "run", name=planted.CAPTURE, hookpoints=("layers.9",)))


BROKEN = {
    "cut off": (lambda f: f.write_text(f.read_text()[:-9]), "cannot be read"),
    "an object": (lambda f: f.write_text("{}"), "holds no list of items"),
    "no items": (lambda f: f.write_text('[{"prediction": true}]'), "item 1 is no judged text"),
    "no numbers": (
        lambda f: put(f, [item(True, True, "far")]), "item 1 is no judged text: ValueError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(tmp_path, name, capsys):
    breaks, match = BROKEN[name]
    made(tmp_path / "run")
    breaks(tmp_path / "run" / "scores" / "detection" / "layers.3_latent17.txt")
    asked = ["import", "delphi-results", str(tmp_path / "run"), "--lake", str(tmp_path / "lake")]
    assert run(asked) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert match in said
    assert "Traceback" not in said


def test_folders_without_results_and_scorers_without_calls_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(ConfigError, match="holds none; expected explanations/HOOKPOINT_latentN"):
        read(lake, Import(path=tmp_path / "empty"))
    with pytest.raises(NotFound, match="there is no such folder"):
        read(lake, Import(path=tmp_path / "nowhere"))
    made(tmp_path / "run")
    put(tmp_path / "run" / "scores" / "simulation" / "layers.3_latent3.txt", [{"distance": 1}])
    done = read(lake, Import(path=tmp_path / "run"))
    assert any("left out scores/simulation: 1 files" in line for line in done.said)
    shutil.rmtree(tmp_path / "run" / "scores")
    done = read(lake, Import(path=tmp_path / "run", name="said"))
    assert "imported 3 explanations of 3 latents and 0 judged texts" in done.said[0]
