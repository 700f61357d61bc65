"""Explainers that show what a latent does to the output: the captured model is opened for them."""

from __future__ import annotations

import json
import re

import pytest

from lakeinterp import pipeline
from lakeinterp.errors import ConfigError
from lakeinterp.explain.both_views import BothViewsExplainer
from lakeinterp.explain.token_list import TokenListExplainer
from lakeinterp.lake import Lake
from lakeinterp.sampling import sample
from lakeinterp.subject import opening
from tests import tiny
from tests.score.planted_examples import planted_config, sampled_lake
from tests.subject import built
from tests.wire import Wire


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """Return the settings of a capture of the tiny model that is sampled."""
    lake, config = built.captured(tmp_path_factory.mktemp("views"))
    sample(lake, config)
    yield config
    opening.close()


@pytest.fixture(scope="module")
def subject(captured):
    return opening.open_subject(built.bench(Lake(captured.lake), captured))


def asked(config, name, latents=None, **settings):
    """Explain; return the questions by latent, and the rows by latent."""
    lake = Lake(config.lake)
    latents = latents or tuple(range(lake.rows("hookpoints")[0]["n_latents"]))
    with Wire(lambda body: '{"explanation": "cats"}') as wire:
        chosen = {
            "explain": config.explain.model_copy(update={"explainer": name, **settings}),
            "chat": config.chat.model_copy(update={"explainer": wire.route(), "attempts": 1}),
            "sampling": config.sampling.model_copy(update={"latents": latents}),
        }
        run = pipeline.new_run()
        pipeline.explain(config.model_copy(update=chosen), run=run)
    rows = {r["latent"]: r for r in lake.rows("explanations") if r["run"] == run}
    replies = {r["key"]: json.loads(r["request"]) for r in lake.rows("replies")}
    questions = {
        latent: replies[row["reply_keys"][0]]["messages"]
        for latent, row in rows.items()
        if row["reply_keys"]
    }
    assert len(wire.requests) == len(questions)
    return {k: q[-1]["content"] for k, q in questions.items()}, rows


def cited(tokens):
    return ", ".join(f'"{token.text}"' for token in tokens)


def test_output_centric_shows_the_tokens_of_the_decoder_row_of_dead_latents_too(captured, subject):
    questions, rows = asked(captured, "output_centric", n_output_tokens=4)
    found = subject.output_logits(range(tiny.N_LATENTS), 4)
    assert set(questions) == set(range(tiny.N_LATENTS))
    for latent, question in questions.items():
        assert f"more likely: {cited(found[latent].raised)}\n" in question
        assert f"less likely: {cited(found[latent].lowered)}\n" in question
        assert rows[latent]["text"] == "cats"
        assert json.loads(rows[latent]["detail"])["logits"]["raised"] == [
            token.text for token in found[latent].raised
        ]


def test_both_views_shows_the_passages_and_the_tokens_of_both_ways(captured, subject):
    latents = (tiny.CAT_LATENT, tiny.DEAD_LATENT)
    questions, rows = asked(captured, "both_views", latents, n_output_tokens=3, output_view="both")
    (steered,) = subject.raised([tiny.CAT_LATENT], n=3)
    (logits,) = subject.output_logits([tiny.CAT_LATENT], 3)
    question = questions[tiny.CAT_LATENT]
    assert re.search(r"^1: .*<<.*cat.*>>", question, re.MULTILINE)
    weights, _, tried = question.partition("Tried on texts:")
    assert cited(logits.raised) in weights
    assert cited(steered.raised) in tried
    assert rows[tiny.DEAD_LATENT]["status"] == "too_few_examples"


def test_token_list_shows_peaks_what_follows_them_and_what_is_raised(captured, subject):
    questions, _ = asked(captured, "token_list", n_output_tokens=2)
    (found,) = subject.output_logits([tiny.CAT_LATENT], 2)
    question = questions[tiny.CAT_LATENT]
    peaks, after, raised = re.findall(r": (.*)$", question, re.MULTILINE)[:3]
    assert set(peaks.split(", ")) == {'" cat"'}
    assert len(set(after.split(", "))) > 3
    assert raised == cited(found.raised)


def test_token_list_without_output_tokens_needs_no_subject_model(tmp_path):
    config = planted_config().model_copy(update={"lake": str(tmp_path / "lake")})
    sampled_lake(tmp_path / "lake", config, n_sequences=60, n_latents=4, n_buckets=1)
    questions, rows = asked(config, "token_list", n_output_tokens=0)
    assert "made more likely: not known" in questions[0]
    assert rows[0]["detail"] is None
    with pytest.raises(ConfigError, match="does not say which model"):
        asked(config, "output_centric")


def test_an_explainer_that_shows_output_tokens_wants_some():
    config = planted_config().explain.model_copy(update={"n_output_tokens": 0})
    with pytest.raises(ConfigError, match=r"explain\.n_output_tokens: both_views shows"):
        BothViewsExplainer(config)
    assert (
        TokenListExplainer(config).settings
        != TokenListExplainer(config.model_copy(update={"n_output_tokens": 3})).settings
    )
