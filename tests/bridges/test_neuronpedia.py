"""What is exported for Neuronpedia against the tables that its importer fills.

The importer makes release, model, source set and source from a line each: an unknown field, or a
null for JSON, ends it. Of the batches it takes the fields of a file's first line that are columns
and inserts every line with all of them: one that a later line lacks becomes null.
"""

from __future__ import annotations

import gzip
import json
import math
from datetime import datetime

import pytest

from lakeinterp import bridges
from lakeinterp.bridges.base import Export, Names
from tests.bridges import told

# A column's kind: s text, i whole number, f number, b yes or no, t time, v enum of visibility; `*`
# a list of these, `?` may be null, `!` has no default and must be given.
TABLES = {
    "release": "name s! visibility v isNewUi b featured b description s! descriptionShort s? "
    "urls s* creatorEmail s? creatorName s! creatorNameShort s? creatorId s! "
    "defaultSourceSetName s? defaultSourceId s? defaultUmapSourceIds s* createdAt t",
    "model": "id s! displayNameShort s displayName s creatorId s! tlensId s? dimension i? "
    "visibility v defaultSourceSetName s? defaultSourceId s? inferenceEnabled b instruct b "
    "layers i! neuronsPerLayer i! createdAt t owner s! updatedAt t website s?",
    "sourceset": "modelId s! name s! hasDashboards b allowInferenceSearch b visibility v "
    "description s! type s creatorName s! urls s* creatorEmail s? creatorId s! releaseName s? "
    "defaultOfModelId s? defaultRange i defaultShowBreaks b showDfa b showCorrelated b "
    "showHeadAttribution b showUmap b createdAt t",
    "source": "id s! modelId s! hasDashboards b inferenceEnabled b saelensRelease s? "
    "saelensSaeId s? hfRepoId s? hfFolderId s? visibility v defaultOfModelId s? setName s! "
    "creatorId s! hasUmap b hasUmapLogSparsity b hasUmapClusters b num_prompts i? "
    "num_tokens_in_prompt i? dataset s? notes s? createdAt t",
    "features": "modelId s! layer s! index s! sourceSetName s? creatorId s? createdAt t "
    "maxActApprox f? hasVector b vector f* vectorLabel s? vectorDefaultSteerStrength f? "
    "hookName s? topkCosSimIndices i* topkCosSimValues f* neuron_alignment_indices i* "
    "neuron_alignment_values f* neuron_alignment_l1 f* correlated_neurons_indices i* "
    "correlated_neurons_pearson f* correlated_neurons_l1 f* correlated_features_indices i* "
    "correlated_features_pearson f* correlated_features_l1 f* neg_str s* neg_values f* pos_str s* "
    "pos_values f* frac_nonzero f freq_hist_data_bar_heights f* freq_hist_data_bar_values f* "
    "logits_hist_data_bar_heights f* logits_hist_data_bar_values f* decoder_weights_dist f*",
    "activations": "id s! tokens s* dataIndex s? index s! layer s! modelId s! dataSource s? "
    "maxValue f! maxValueTokenIndex i! minValue f! values f* dfaValues f* dfaTargetIndex i? "
    "dfaMaxValue f? creatorId s! createdAt t lossValues f* logitContributions s? binMin f? "
    "binMax f? binContains f? qualifyingTokenIndex i?",
    "explanations": "id s! modelId s! layer s! index s! embedding f*? description s! authorId s! "
    "notes s? typeName s? explanationModelName s? createdAt t updatedAt t",
}
PLAIN = {"s": str, "i": int, "f": (int, float), "b": bool, "t": str, "v": str}


def columns(name):
    words = TABLES[name].split()
    return dict(zip(words[::2], words[1::2], strict=True))


def fits(kind, value):
    if value is None:
        return kind.endswith("?")
    if "*" in kind:
        return isinstance(value, list) and all(fits(kind[0], one) for one in value)
    if not isinstance(value, PLAIN[kind[0]]) or isinstance(value, bool) != (kind[0] == "b"):
        return False
    if kind[0] == "t":
        return datetime.fromisoformat(value).tzinfo is not None
    if kind[0] == "v":
        return value in ("PUBLIC", "UNLISTED", "PRIVATE")
    if kind[0] == "s":
        value.encode()  # no half of a character, which the database refuses
        return True
    return math.isfinite(value)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neuronpedia")
    lake = told.lake(str(folder / "lake"))
    names = Names(model="tiny", source_set="res")
    options = Export(path=folder / "out", n_logits=0, config=told.SETTINGS, names=names)
    bridges.exporter("neuronpedia")(lake, options)
    return folder / "out" / "tiny" / "0-res"


def lines(source, name):
    one = source / f"{name}.jsonl"
    if one.is_file():
        return [json.loads(one.read_text(encoding="utf-8"))]
    paths = sorted((source / name).glob("batch-*.jsonl.gz"))
    return [json.loads(line) for p in paths for line in gzip.open(p, "rt", encoding="utf-8")]


@pytest.mark.parametrize("name", TABLES)
def test_every_line_fits_the_table_that_it_goes_to(source, name):
    known, found = columns(name), lines(source, name)
    assert found
    needed = {column for column, kind in known.items() if "!" in kind}
    for line in found:
        assert line.keys() == found[0].keys()
        assert needed <= line.keys() <= known.keys()
        assert [c for c, value in line.items() if not fits(known[c], value)] == []


def test_lines_name_lines_that_are_there_already(source):
    release, model, series, one = (
        lines(source, name)[0] for name in ("release", "model", "sourceset", "source")
    )
    assert series["releaseName"] == release["name"]
    assert model["id"] == series["modelId"] == one["modelId"] == source.parent.name
    assert (one["setName"], one["id"]) == (series["name"], source.name)
    features = {(f["modelId"], f["layer"], f["index"]) for f in lines(source, "features")}
    assert {key[:2] for key in features} == {(model["id"], one["id"])}
    for name in ("activations", "explanations"):
        rows = lines(source, name)
        assert {(r["modelId"], r["layer"], r["index"]) for r in rows} <= features
        assert len({r["id"] for r in rows}) == len(rows)
