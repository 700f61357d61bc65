"""Documents that share a sequence and do not see each other, against documents run alone."""

from __future__ import annotations

import pytest
import torch

from lakeinterp.capture import capture
from lakeinterp.capture.boundaries import positions, refuse_if_crossed
from lakeinterp.capture.model import SubjectModel
from lakeinterp.coders import find
from lakeinterp.commands import demo
from lakeinterp.config import CaptureConfig, load
from lakeinterp.corpus.pack import Sequence, Span
from lakeinterp.errors import ConfigError
from lakeinterp.lake import Lake
from tests.capture.test_places import FAMILIES, V, build, close, spec

N_TOKENS = 12
TOKENS = torch.arange(2 * N_TOKENS).view(2, N_TOKENS) % V
STARTS = [[0, 5, 9], [0, 7, 11]]


def sequence(spans, tokens=(0,) * N_TOKENS):
    return Sequence(0, tuple(tokens), tuple(Span(*span) for span in spans), 0, 0)


def anew(starts):
    """Positions that begin again at each of some starts, counted one by one."""
    return [position - max(s for s in starts if s <= position) for position in range(N_TOKENS)]


@pytest.mark.parametrize(
    ("spans", "starts"),
    [
        ([(None, 0), (7, 1), (None, 5), (8, 6), (None, 11)], [0, 5, 11]),
        ([(7, 0), (None, 4), (8, 5)], [0, 4]),
        ([(7, 0), (8, 4), (9, 9)], [0, 4, 9]),
        ([(None, 0), (7, 1)], [0]),
    ],
    ids=["marks at both ends", "ends marked", "no marks", "one document"],
)
def test_a_document_starts_with_the_special_token_before_it(spans, starts):
    other = [(7, 0), (8, 6)]
    found = positions([sequence(spans), sequence(other)]).tolist()
    assert found == [anew(starts), anew([0, 6])]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    return build(request.param, tmp_path_factory)[1]


def places(model):
    names = [f"blocks.{layer}.hook_resid_post" for layer in (0, 2)]
    return [model.resolve(spec(name)) for name in names]


def test_states_of_packed_documents_are_those_of_each_alone(model):
    positions_BT = torch.tensor([anew(starts) for starts in STARTS])
    packed = model.hidden(TOKENS, places(model), positions_BT=positions_BT)
    crossing = model.hidden(TOKENS, places(model))
    for number, starts in enumerate(STARTS):
        for start, end in zip(starts, [*starts[1:], N_TOKENS], strict=True):
            alone = model.hidden(TOKENS[number : number + 1, start:end], places(model))
            for place, x_BTD in alone.items():
                close(packed[place][number, start:end], x_BTD[0])
                seen = crossing[place][number, start:end]
                assert not start or not torch.allclose(seen, x_BTD[0], atol=1e-2)
    refuse_if_crossed(model, places(model), TOKENS)


def test_a_model_whose_tokens_see_other_documents_is_refused(tmp_path_factory):
    _, encoder = build("bert", tmp_path_factory)
    place = encoder.resolve(spec("encoder.layer.2"))
    with pytest.raises(ConfigError, match=r"capture\.document_attention: BertModel with sdpa"):
        refuse_if_crossed(encoder, [place], TOKENS)


def test_a_capture_holds_what_documents_do_alone(tmp_path):
    values = {
        **demo.settings(str(tmp_path)),
        "capture.name": "apart",
        "capture.n_tokens": 4_096,
        "capture.document_attention": True,
        "capture.value_dtype": "float32",
        "capture.hookpoints": ("layers.3",),
    }
    config = load(values=values)
    lake = Lake(config.lake)
    capture(lake, config)
    stored = lake.sql("SELECT sequence, tokens, documents FROM sequences ORDER BY 1").fetchall()
    rows = lake.sql("SELECT token, latent, value FROM activations").fetchall()
    found = {(token, latent): value for token, latent, value in rows}
    model = SubjectModel(CaptureConfig(model=config.capture.model, device="cpu"))
    folder = find(config.capture.coder, config.capture.hookpoints)
    coder = folder.load(folder.specs[0], "cpu", 2**24)
    read = model.resolve(coder.spec)
    n_seen = 0
    for number, tokens, spans in stored:
        marks = [span["start"] for span in spans if span["document"] is None]
        for start, end in zip(marks, [*marks[1:], len(tokens)], strict=True):
            if end - start < 2:
                continue
            x_BTD = model.hidden(torch.tensor([tokens[start:end]]), [read])[read]
            active = coder.encode(x_BTD[0, 1:])
            for token, latent, value in zip(*(c.tolist() for c in active), strict=True):
                place = number * len(tokens) + start + 1 + token
                assert found.pop((place, latent), 0.0) == pytest.approx(value, abs=1e-2)
                n_seen += 1
    assert n_seen > 20_000
    assert max(found.values(), default=0.0) < 1e-2


def test_it_is_a_capture_of_its_own(tmp_path):
    values = {**demo.settings(str(tmp_path)), "capture.n_tokens": 1_024, "capture.name": "one"}
    lake = Lake(str(tmp_path))
    capture(lake, load(values=values))
    with pytest.raises(ConfigError, match="with another document_attention"):
        capture(lake, load(values={**values, "capture.document_attention": True}))
