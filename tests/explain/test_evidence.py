"""What an explainer is told of a latent."""

from __future__ import annotations

from dataclasses import asdict

from lakeinterp.explain.default import DefaultExplainer
from lakeinterp.explain.evidence import Evidence
from lakeinterp.explain.explainer import _evidence, series_of
from lakeinterp.lake.units import sample_id
from lakeinterp.terms import Unit
from tests.planted import CAPTURE, HOOKPOINT
from tests.score.planted_examples import planted_config, sampled_lake


def test_evidence_holds_the_explainers_examples_and_four_counts_of_how_often(tmp_path):
    config = planted_config()
    made = sampled_lake(tmp_path / "lake", config, n_sequences=80, n_latents=4, n_buckets=1)
    lake, unit = made.lake, Unit(capture=CAPTURE, hookpoint=HOOKPOINT, bucket=0)
    series = series_of(
        DefaultExplainer(config.explain), config, sample_id(lake, CAPTURE, config.sampling)
    )
    vocabulary = lake.vocabulary(lake.capture()["tokenizer"])
    found = list(_evidence(lake, unit, series, vocabulary, [0, 1, 2, 3]))
    assert [e.latent.latent for e in found] == [0, 1, 2, 3]
    counted = {r["latent"]: r for r in lake.rows("latents")}
    for evidence in found:
        mine = asdict(evidence.frequency)
        assert set(mine) == {"status", "n_windows", "n_activations", "density"}
        assert mine == {k: counted[evidence.latent.latent][k] for k in mine}
        assert {e.role for e in evidence.examples} <= {"explain"}
    assert set(Evidence.__slots__) == {"latent", "examples", "frequency"}
    assert [bool(e.examples) for e in found] == [True, True, False, True]
