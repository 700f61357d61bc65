"""More captured tokens: another sample, explained and scored anew; the old one stays as it was."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.config import Config
from lakeinterp.errors import LakeError
from lakeinterp.explain import explain
from lakeinterp.lake.activations import bucket_latents, write_activations
from lakeinterp.lake.units import sample_id, shard_app
from lakeinterp.report.details import details
from lakeinterp.report.reader import Reader
from lakeinterp.report.status import status
from lakeinterp.sampling import sample
from lakeinterp.score import score
from tests.planted import HOOKPOINT, planted_lake
from tests.report.test_terminal import shown

CONTEXT, BEFORE = 64, 80
RUN = {"run": "test"}
CONFIG = Config.model_validate(
    {
        "sampling": {
            "window_tokens": 16,
            "n_quantiles": 2,
            "n_explain": 12,
            "n_explain_negatives": 12,
            "n_score": 10,
            "n_random": 10,
            "min_windows": 4,
        },
        "corpus": {"context_tokens": CONTEXT},
        "score": {"scorers": ["pattern"], "n_borrowed": 1},
    }
)


@pytest.fixture
def grows(tmp_path):
    """Return a lake whose capture `grown` has the first sequences, and what adds the others."""
    planted = planted_lake(str(tmp_path / "lake"), n_sequences=140, n_latents=6, n_buckets=2)
    lake = planted.lake
    capture = lake.capture() | {"capture": "grown"}
    lake.upsert("captures", [capture], scope={"capture": "grown"})
    hookpoint = lake.rows("hookpoints")[0] | {"capture": "grown"}
    lake.upsert("hookpoints", [hookpoint], scope={"capture": "grown"})
    publish(planted, 0, 0, BEFORE)
    return lake, lambda: publish(planted, 1, BEFORE, 140)


def publish(planted, shard, first, stop):
    part = planted.dense[first * CONTEXT : stop * CONTEXT]
    latents, tokens = np.nonzero(part.T)
    files = write_activations(
        planted.lake.store,
        capture="grown",
        hookpoint=HOOKPOINT,
        latents_per_bucket=bucket_latents(6, 2),
        latents=latents.astype(np.int32),
        tokens=(tokens + first * CONTEXT).astype(np.int64),
        values=part[tokens, latents],
        name=f"shard-{shard:05d}",
    )
    app = shard_app("grown", shard)
    assert planted.lake.publish("activations", files, app=app, version=stop - first)


def everything(lake, chat=None):
    sample(lake, CONFIG, capture="grown")
    asyncio.run(explain(lake, CONFIG, chat, capture="grown", **RUN))
    asyncio.run(score(lake, CONFIG, chat, capture="grown", **RUN))


def of_sample(lake, name, table="examples"):
    return [r for r in lake.rows(table) if r["sample"] == name]


def test_new_tokens_reach_explanations_and_scores_and_old_rows_keep_their_examples(grows):
    lake, capture_more = grows
    old = sample_id(lake, "grown", CONFIG.sampling)
    everything(lake)
    before = {name: of_sample(lake, old, name) for name in ("examples", "explanations")}
    judged = lake.rows("judgements")
    assert before["examples"]
    assert before["explanations"]
    capture_more()
    new = sample_id(lake, "grown", CONFIG.sampling)
    assert new != old
    everything(lake)
    assert {name: of_sample(lake, old, name) for name in before} == before
    explained = of_sample(lake, new, "explanations")
    assert {r["latent"] for r in explained} >= {r["latent"] for r in before["explanations"]}
    mine = {r["explanation"] for r in explained if r["status"] == "ok"}
    assert mine <= {r["explanation"] for r in lake.rows("scores")}
    shown_to_judge = [r for r in lake.rows("judgements") if r["explanation"] in mine]
    of_latent = {(r["latent"], r["example"]): r for r in of_sample(lake, new)}
    for row in shown_to_judge:
        example = of_latent[row["latent"], row["example"]]
        assert (row["stratum"], row["quantile"]) == (example["stratum"], example["quantile"])
    old_judgements = [r for r in lake.rows("judgements") if r["explanation"] not in mine]
    assert old_judgements == judged


def test_nothing_is_explained_or_scored_before_its_examples_are_drawn(grows):
    lake, capture_more = grows
    everything(lake)
    n = {name: len(lake.rows(name)) for name in ("explanations", "judgements")}
    capture_more()
    for step in (explain, score):
        with pytest.raises(LakeError, match="captured by now: run `lakeinterp sample` first"):
            asyncio.run(step(lake, CONFIG, None, capture="grown", **RUN))
    assert {name: len(lake.rows(name)) for name in n} == n


def test_latents_chosen_later_wait_for_their_examples(grows):
    lake, _ = grows
    few = CONFIG.model_copy(
        update={"sampling": CONFIG.sampling.model_copy(update={"max_latents": 2})}
    )
    sample(lake, few, capture="grown")
    asyncio.run(explain(lake, few, None, capture="grown", **RUN))
    with pytest.raises(LakeError, match="no examples were drawn"):
        asyncio.run(explain(lake, CONFIG, None, capture="grown", **RUN))
    assert len(lake.rows("explanations")) == 2


def test_reports_show_the_newest_sample_and_say_what_is_older(grows):
    lake, capture_more = grows
    everything(lake)
    capture_more()
    text = " ".join(shown(status(lake, CONFIG), 300).split())
    assert "(earlier: other settings or fewer tokens)" in text
    assert "no examples with these settings from all tokens: lakeinterp sample" in text
    one = CONFIG.model_copy(
        update={"sampling": CONFIG.sampling.model_copy(update={"latents": (0,)})}
    )
    sample(lake, CONFIG, capture="grown")
    text = " ".join(shown(status(lake, CONFIG), 300).split())
    assert "5 latents sampled, not explained" in text
    asyncio.run(explain(lake, one, None, capture="grown", **RUN))
    asyncio.run(score(lake, one, None, capture="grown", **RUN))
    new = sample_id(lake, "grown", CONFIG.sampling)
    with Reader(lake, CONFIG, "grown") as reader:
        assert reader.newest_sample == reader.present_sample == new
        latents = {one.listed.latent: one for one in reader.latents(scored=True, n=9)}
    assert latents[0].sample == new
    assert not latents[0].is_older
    assert latents[1].is_older


def test_marks_stand_only_on_examples_of_the_sample_that_was_judged(grows):
    """The default explainer judged the new sample, the pattern rule the old one."""
    lake, capture_more = grows
    everything(lake)
    capture_more()
    other = CONFIG.model_copy(
        update={
            "explain": CONFIG.explain.model_copy(update={"explainer": "default"}),
            "score": CONFIG.score.model_copy(update={"scorers": ("detection",)}),
        }
    )
    chat = ScriptedChat(lambda r: '{"explanation": "x"}' if r.route == "explainer" else "no idea")
    sample(lake, other, capture="grown")
    asyncio.run(explain(lake, other, chat, capture="grown", **RUN))
    asyncio.run(score(lake, other, chat, capture="grown", **RUN))
    with Reader(lake, CONFIG, "grown") as reader:
        found = details(reader, reader._details_con, list(reader.listed(scored=True, n=9)))
    new = sample_id(lake, "grown", CONFIG.sampling)
    for latent in found:
        scorers = {m.scorer for s in latent.sections for e in s.examples for m in e.marks}
        samples = {e.explainer: e.sample for e in latent.explanations}
        shown_here = {e for e, name in samples.items() if name == latent.sample}
        assert samples["default"] == new
        assert scorers <= ({"detection"} if "default" in shown_here else {"pattern"})
