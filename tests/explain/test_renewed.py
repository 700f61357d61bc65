"""What is taken from other latents' explanations follows them when they are written anew."""

from __future__ import annotations

import json

import pytest

from lakeinterp import pipeline
from lakeinterp.lake import Lake
from tests.planted import CAPTURE
from tests.score.planted_examples import planted_config, sampled_lake

LATENTS = [0, 1, 3, 4, 5]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("renewed") / "lake")
    sampled_lake(root, config(root), n_buckets=1)
    return root


def config(root, latents=LATENTS, **explain):
    made = planted_config(explain=explain, sampling={"latents": list(latents)})
    return made.model_copy(update={"lake": root})


def load(root, path, texts):
    lines = [json.dumps({"latent": i, "explanation": text}) for i, text in texts.items()]
    path.write_text("\n".join(lines))
    pipeline.explain(config(root, texts, explainer="loaded", source=str(path)), run="r")


def texts(root, explainer):
    with Lake(root).connect() as con:
        found = con.execute(
            "SELECT latent, text FROM newest_explanations($c) WHERE explainer = $e",
            {"c": CAPTURE, "e": explainer},
        )
        return dict(found.fetchall())


@pytest.mark.parametrize("name", ["borrowed", "random"])
def test_a_baseline_is_renewed_where_the_explanation_it_took_was_written_anew(
    sampled, tmp_path, name
):
    baseline = config(sampled, explainer=name, source_explainer="loaded")
    load(sampled, tmp_path / "first.jsonl", {i: f"{name} first {i}" for i in LATENTS})
    assert pipeline.explain(baseline, run="r").counts["ok"] == len(LATENTS)
    before = texts(sampled, name)
    assert not pipeline.explain(baseline, run="r").counts
    load(sampled, tmp_path / "second.jsonl", {i: f"{name} second {i}" for i in LATENTS[:2]})
    renewed = {i: t.replace("first", "second") for i, t in before.items() if int(t[-1]) in (0, 1)}
    assert renewed
    assert pipeline.explain(baseline, run="r").counts["ok"] == len(renewed)
    assert texts(sampled, name) == before | renewed


def test_each_latent_lends_its_newest_explanation_alone_to_the_null(sampled, tmp_path):
    load(sampled, tmp_path / "first.jsonl", {i: f"older {i}" for i in LATENTS})
    baseline = config(sampled, explainer="random", source_explainer="loaded")
    pipeline.explain(baseline, run="r")
    load(sampled, tmp_path / "second.jsonl", {i: f"newer {i}" for i in LATENTS})
    pipeline.explain(baseline, run="r")
    pipeline.score(baseline, run="r")
    rows = Lake(sampled).rows("judgements", "role = 'borrowed'")
    lent = {(r["latent"], r["explained_latent"], r["explanation"]) for r in rows}
    assert len(lent) == len({key[:2] for key in lent}) == len(LATENTS) * 3
    said = {r["explanation"]: r["text"] for r in Lake(sampled).rows("explanations")}
    assert {said[explanation][:5] for _, _, explanation in lent} == {"newer"}
