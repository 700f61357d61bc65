"""Nights of more tokens: what fired is counted, drawn, explained and judged again; nothing else."""

from __future__ import annotations

from lakeinterp.lake.units import sample_id
from lakeinterp.rescore import refresh, stale
from lakeinterp.sampling import sample
from tests.rescore.growing import CAPTURE, QUIET, Growing, rows_of, settings


def versions(lake):
    return {name: lake.version(name) for name in lake.tables()}


def test_the_first_night_does_everything_as_the_plain_commands_do(night, tmp_path):
    grown, done, n_asked = night
    assert done.n_left == 0
    assert done.reasons["unexplained"] == done.n_done == 5
    assert done.spent.n_calls == n_asked
    plain = Growing(str(tmp_path / "lake"))
    sample(plain.lake, settings(plain.root), capture=CAPTURE)
    plain.plainly()
    for name in ("latents", "examples", "explanations", "judgements", "scores"):
        assert rows_of(grown.lake, name) == rows_of(plain.lake, name), name


def test_a_night_without_anything_new_asks_nothing_and_writes_nothing(grown):
    before = versions(grown.lake)
    done, n_asked = grown.rescore()
    assert (n_asked, done.n_done, done.refreshed.n_refreshed) == (0, 0, 0)
    assert not done.reasons
    assert versions(grown.lake) == before


def test_buckets_that_fired_in_new_tokens_are_as_in_a_fresh_lake_and_others_as_they_were(
    grown, tmp_path
):
    config = settings(grown.root)
    old = sample_id(grown.lake, CAPTURE, config.sampling)
    before = {name: rows_of(grown.lake, name) for name in ("latents", "examples", "explanations")}
    grown.capture()
    new = sample_id(grown.lake, CAPTURE, config.sampling)
    found = stale(grown.lake, config, capture=CAPTURE)
    assert found.n_due == 2
    assert found.reasons == {"tokens": 3}
    assert {row.latent for row in found.rows} == {0, 1, 3}
    done, n_asked = grown.rescore()
    assert done.refreshed.n_refreshed == 2
    assert (done.n_done, done.n_left) == (3, 0)
    assert n_asked == done.spent.n_calls > 0

    fresh = Growing(str(tmp_path / "fresh"))
    fresh.capture()
    sample(fresh.lake, config.model_copy(update={"lake": fresh.root}), capture=CAPTURE)
    touched = {r["bucket"] for r in rows_of(fresh.lake, "examples")} - {2}
    for bucket in touched:
        mine = rows_of(grown.lake, "examples", bucket=bucket, sample=new)
        assert mine == rows_of(fresh.lake, "examples", bucket=bucket)
    latents = {r["latent"]: r for r in rows_of(fresh.lake, "latents")}
    for row in rows_of(grown.lake, "latents"):
        is_old = row["latent"] in QUIET
        assert row == (before["latents"][row["latent"]] if is_old else latents[row["latent"]])
    # Of the others the activating windows are those of a fresh draw too.
    columns = ("latent", "role", "quantile", "document", "start", "values", "population", "weight")
    for latent in QUIET:
        drawn = [
            [{c: r[c] for c in columns} for r in rows_of(lake, "examples", latent=latent, **more)
             if r["stratum"] == "activating"]
            for lake, more in ((grown.lake, {"sample": old}), (fresh.lake, {}))
        ]  # fmt: skip
        assert drawn[0] == drawn[1] != []
    # History: nothing of the earlier sample was touched.
    assert rows_of(grown.lake, "examples", sample=old) == before["examples"]
    assert rows_of(grown.lake, "explanations", sample=old) == before["explanations"]


def test_the_whole_is_drawn_again_if_asked_and_the_same_windows_are_explained_for_free(grown):
    grown.capture()
    config = settings(grown.root, rescore={"whole": True})
    done, _ = grown.rescore(config)
    assert done.refreshed.n_refreshed == 3
    assert done.reasons == {"tokens": 5}
    assert not stale(grown.lake, config, capture=CAPTURE).rows
    # Where nothing fired the explainer is shown the same windows: the lake has its replies.
    assert done.explained == {"ok": 5}
    assert len([r for r in grown.asked if r.route == "explainer"]) == 3


def test_a_latent_of_a_quiet_bucket_is_judged_on_the_examples_it_was_explained_with(grown):
    grown.capture()
    grown.rescore()
    n_old = len(rows_of(grown.lake, "examples"))
    config = settings(grown.root, score={"items_per_prompt": 4})
    done, n_asked = grown.rescore(config)
    assert done.reasons == {"judge": 5}
    assert n_asked > 0
    assert done.n_left == 0
    assert len(rows_of(grown.lake, "examples")) == n_old
    assert not stale(grown.lake, config, capture=CAPTURE).rows


def test_history_holds_a_row_for_each_corpus_that_a_latent_was_counted_over(grown):
    for _ in range(2):
        grown.capture()
        refresh(grown.lake, settings(grown.root), run="night", capture=CAPTURE)
    held = rows_of(grown.lake, "history")
    n = {i: len([r for r in held if r["latent"] == i]) for i in range(6)}
    assert n == {0: 3, 1: 3, 2: 3, 3: 3, 4: 1, 5: 1}
    newest = {r["latent"]: r for r in sorted(held, key=lambda r: r["n_tokens"])}
    for row in rows_of(grown.lake, "latents"):
        assert {k: row[k] for k in newest[row["latent"]]} == newest[row["latent"]]
    before = versions(grown.lake)
    assert refresh(grown.lake, settings(grown.root), run="x", capture=CAPTURE).n_recorded == 0
    assert versions(grown.lake) == before


def test_what_was_counted_before_the_first_refresh_is_kept_in_history(tmp_path):
    grown = Growing(str(tmp_path / "lake"))
    sample(grown.lake, settings(grown.root), capture=CAPTURE)
    before = rows_of(grown.lake, "latents")
    grown.capture()
    done = refresh(grown.lake, settings(grown.root), run="r", capture=CAPTURE)
    assert (done.n_refreshed, done.n_recorded) == (2, 6 + 4)
    held = rows_of(grown.lake, "history")
    for row in before:
        assert {k: row[k] for k in held[0]} in held
