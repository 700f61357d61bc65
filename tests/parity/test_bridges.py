"""What is exported, read by the code of those it is for; what they write, read by the lake.

Needs an environment of its own: `make test-parity`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from lakeinterp import bridges
from lakeinterp.bridges.base import Export, Import
from lakeinterp.lake import Lake
from tests.bridges import caches, test_dashboards, test_results, told

pytestmark = pytest.mark.parity


SAME = {
    "tpr": "recall", "fpr": "false_positive_rate", "balanced_accuracy": "accuracy",
    "reference_precision": "precision", "reference_f1": "f1_score",
}  # fmt: skip
"""Figures of the lake, and delphi's words for them."""


@pytest.fixture(scope="module")
def delphi():
    """Delphi without vLLM, which only its offline client needs."""
    stubs = {
        "vllm": ("LLM", "SamplingParams"),
        "vllm.inputs": ("TokensPrompt",),
        "vllm.distributed": (),
        "vllm.distributed.parallel_state": (
            "destroy_distributed_environment", "destroy_model_parallel",
        ),
    }  # fmt: skip
    for name, attributes in stubs.items():
        stub = ModuleType(name)
        for attribute in attributes:
            setattr(stub, attribute, type(attribute, (), {}))
        sys.modules.setdefault(name, stub)
    return pytest.importorskip("delphi")


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return told.lake(str(tmp_path_factory.mktemp("told") / "lake"))


def options(path, **more):
    return Export(path=path, n_logits=0, config=told.SETTINGS, **more)


def test_delphis_report_finds_the_figures_of_the_lake(delphi, tmp_path):
    from delphi.log import result_analysis as analysis

    test_results.made(tmp_path / "run")
    lake = Lake(str(tmp_path / "lake"))
    bridges.importer("delphi-results")(lake, Import(path=tmp_path / "run"))
    bridges.exporter("delphi-results")(lake, Export(path=tmp_path / "out"))
    table, _ = analysis.load_data(tmp_path / "out" / "scores", ["layers.3"])
    ours = test_results.figures(lake)
    for latent in (3, 17):
        # Theirs count neighbours' texts among all that lack the latent; ours keep them apart.
        table_of = table[table.latent_idx == latent]
        kept = table_of[table_of.activating | (table_of.distance == -1)]
        theirs = analysis.compute_classification_metrics(analysis.compute_confusion(kept))
        for metric, name in SAME.items():
            assert ours[latent, metric][0] == pytest.approx(theirs[name])


def test_delphi_loads_our_explanations_and_judgements(delphi, lake, tmp_path):
    from delphi.explainers.explainer import explanation_loader
    from delphi.log import result_analysis as analysis

    write = bridges.exporter("delphi-results")
    write(lake, options(tmp_path / "out", explainer="default"))
    record = SimpleNamespace(latent="layers.0_latent0")
    found = asyncio.run(explanation_loader(record, str(tmp_path / "out" / "explanations")))
    assert found.explanation == "fires on cat"
    table, counts = analysis.load_data(tmp_path / "out" / "scores", ["layers.0"])
    assert set(table.score_type) == {"fuzz"}
    fired = {row["latent"]: row["n_activations"] for row in lake.rows("latents")}
    assert counts["layers.0"].tolist() == [fired[latent] for latent in range(12)]
    counted = analysis.compute_confusion(table)
    rows = [r for r in lake.rows("judgements") if (r["explanation"], r["settings"]) == ("1", "new")]
    said = [r for r in rows if r["prediction"] is not None]
    assert counted["total_examples"] == len(said)
    assert counted["true_positives"] == sum(r["truth"] and r["prediction"] for r in said)


def test_delphi_loads_a_cache_that_was_exported(delphi, tmp_path):
    from delphi.latents.loader import TensorBuffer

    made = caches.write(tmp_path / "in", n_splits=2)
    lake = Lake(str(tmp_path / "lake"))
    bridges.importer("delphi")(lake, Import(path=tmp_path / "in", without_text=True))
    bridges.exporter("delphi")(lake, Export(path=tmp_path / "out", n_splits=2))
    found = {}
    for name in ("0_4", "5_9"):
        path = tmp_path / "out" / "latents" / "layers.3" / f"{name}.safetensors"
        buffer = TensorBuffer(str(path), module_path="layers.3")
        for one in buffer:
            data, latent = one.activation_data, int(one.latent.latent_index)
            for (row, place, _), value in zip(data.locations, data.activations, strict=True):
                found[latent, int(row) * caches.CONTEXT + int(place)] = float(value)
    assert found == made.rows["layers.3"]


def test_circuit_tracers_model_takes_the_pages(lake, tmp_path):
    models = pytest.importorskip("circuit_tracer.frontend.feature_models")
    from circuit_tracer.frontend.graph_models import Node

    bridges.exporter("circuit-tracer")(lake, options(tmp_path / "out"))
    for latent in (0, 1, 3):
        name = Node.feature_node(0, 0, latent).feature
        path = tmp_path / "out" / "features" / "planted" / f"{name}.json"
        page = models.Model.model_validate_json(path.read_text(), strict=True)
        assert page.index == latent
        assert page.examples_quantiles[0].examples


def test_neuron_explainer_loads_the_records(lake, tmp_path):
    activations = pytest.importorskip("neuron_explainer.activations.activations")
    bridges.exporter("openai-neurons")(lake, options(tmp_path / "out"))
    folder = str(tmp_path / "out")
    assert activations.get_sorted_layers(folder) == ["0"]
    for latent in activations.get_sorted_neuron_indices(folder, 0):
        record = activations.load_neuron(0, latent, f"file://{folder}/neurons")
        assert isinstance(record, activations.NeuronRecord)
        assert record.neuron_id.neuron_index == latent
        if record.most_positive_activation_records:
            assert record.max_activation > 0
    record = activations.load_neuron(0, 0, f"file://{folder}/neurons")
    split = activations.ActivationRecordSliceParams(n_examples_per_split=1)
    assert record.train_activation_records(split)[0].tokens.count(" cat") >= 1
    assert record.valid_activation_records(split)


def test_dashboards_as_saedashboard_writes_them_are_read(tmp_path):
    board = pytest.importorskip("sae_dashboard.neuronpedia.neuronpedia_dashboard")
    shown = board.NeuronpediaDashboardActivation()
    shown.bin_min, shown.bin_max, shown.bin_contains = -1, 3.0, -1
    shown.tokens, shown.values = [" a", " cat"], [0.0, 3.0]
    shown.qualifying_token_index = 1
    page = board.NeuronpediaDashboardFeature()
    page.feature_index, page.frac_nonzero, page.activations = 5, 0.01, [shown]
    page.n_prompts_total, page.n_tokens_in_prompt = 100, 10
    batch = board.NeuronpediaDashboardBatch()
    batch.model_id, batch.layer, batch.sae_set, batch.features = "tiny", 3, "res", [page]
    path = tmp_path / "batch-0.json"
    path.write_text(json.dumps(batch, default=vars))
    lake = Lake(str(tmp_path / "lake"))
    bridges.importer("saedashboard")(lake, Import(path=path))
    (row,) = lake.rows("examples")
    assert (row["latent"], row["peak"], row["peak_offset"]) == (5, 3.0, 1)
    assert lake.rows("latents")[0]["n_activations"] == 10


def test_a_dashboard_made_by_hand_has_the_fields_of_a_real_one():
    board = pytest.importorskip("sae_dashboard.neuronpedia.neuronpedia_dashboard")
    page = vars(board.NeuronpediaDashboardFeature())
    assert set(test_dashboards.PAGES[0]) <= set(page)
    window = vars(board.NeuronpediaDashboardActivation())
    assert set(test_dashboards.PAGES[0]["activations"][0]) <= set(window)


def test_torch_reads_the_firing_counts(lake, tmp_path):
    bridges.exporter("delphi-results")(lake, options(tmp_path / "out", explainer="default"))
    counts = torch.load(tmp_path / "out" / "log" / "hookpoint_firing_counts.pt", weights_only=True)
    assert counts["layers.0"].shape == (12,)
