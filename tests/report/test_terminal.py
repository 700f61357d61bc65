from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from lakeinterp.config import load
from lakeinterp.lake import Lake
from lakeinterp.report import status, summary
from tests.lakes import row
from tests.planted import CAPTURE, HOOKPOINT, planted_lake


def shown(what, width=80):
    out = StringIO()
    Console(file=out, width=width, force_terminal=False).print(what)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_summary_fits_the_terminal_and_has_no_colour(lake, config, width):
    text = shown(summary(lake, config), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert "‮" not in text


def test_summary_counts_latents_explanations_and_cost(lake, config):
    text = " ".join(shown(summary(lake, config), 200).split())
    assert "12: 9 ok, 1 dead, 1 dense, 1 rare" in text
    assert "pattern rule, no language model: 9 ok, 1 too few examples" in text
    assert "default by tiny-explainer: 8 ok, 1 parse failed, 1 too few examples; $0.0050" in text
    assert "1 latent without score; $0.0020, 2 free, 2 of unknown cost" in text


def test_summary_gives_means_with_interval_null_and_share_above(lake, config):
    text = shown(summary(lake, config), 120)
    (line,) = [one for one in text.splitlines() if "default · detection" in one]
    rows = [
        r
        for r in lake.rows("scores", "scorer = 'detection' AND metric = 'balanced_accuracy'")
        if r["value"] is not None
    ]
    mean = sum(r["value"] for r in rows) / len(rows)
    nulls = [r["null_value"] for r in rows if r["null_value"] is not None]
    above = sum(r["ci_low"] > r["null_value"] for r in rows if r["null_value"] is not None)
    assert f"{mean:.2f} [" in line
    assert f"{sum(nulls) / len(nulls):.2f}" in line
    assert f"{above} of {len(nulls)}" in line


def test_summary_lists_best_and_worst_with_score_null_and_failures(lake, config):
    text = shown(summary(lake, config, n_shown=2), 120)
    best, worst = text.split("Worst 2")
    assert "Best 2 of 7 latents" in best
    assert "0.98 [0.90, 1.00]" in best
    shown_last = [
        line.split()[0] for line in worst.splitlines() if ". [0" in line or " [0." in line
    ]
    value = {
        str(r["latent"]): r["value"]
        for r in lake.rows("scores", "scorer = 'pattern' AND metric = 'balanced_accuracy'")
        if r["value"] is not None
    }
    assert shown_last == sorted(value, key=value.__getitem__, reverse=True)[-2:]


def test_latents_that_the_leading_pair_gave_no_score_are_counted_and_not_listed(lake):
    settings = ["explain.explainer=default", "score.scorers=['detection']"]
    text = shown(summary(lake, load(overrides=settings), n_shown=4), 120)
    listed = text.split("Latents  by balanced accuracy, default · detection")[1]
    assert "; 1 more by others alone" in listed
    values = [
        r["value"]
        for r in lake.rows("scores", "scorer = 'detection' AND metric = 'balanced_accuracy'")
        if r["value"] is not None
    ]
    assert sum(line[2:4].strip().isdecimal() for line in listed.splitlines()[1:]) == len(values)
    assert "no explanation" not in listed


def test_summary_of_a_lake_without_scores_says_what_to_run(tmp_path):
    lake = planted_lake(str(tmp_path / "lake"), n_sequences=20).lake
    text = shown(summary(lake, load()))
    assert "12 not sampled" in text
    assert "run `lakeinterp explain`" in text
    assert "run `lakeinterp score`" in text


def test_status_shows_what_is_held_and_what_is_unfinished(lake):
    text = " ".join(shown(status(lake), 200).split())
    assert "12,800 of 20,000 asked" in text
    assert "1 latent sampled, not explained" in text
    assert "2 latents explained, not scored" in text
    assert "default: 8 ok, 1 parse failed, 1 too few examples" in text
    assert "detection · own: 189 ok, 7 parse failed" in text


def test_what_ended_without_a_text_or_a_value_is_not_to_do(tmp_path):
    lake = planted_lake(str(tmp_path / "lake"), n_sequences=20).lake
    key = {"capture": CAPTURE, "hookpoint": HOOKPOINT}
    ends = ["ok", "ok", "no_rule", "refused", "parse_failed", "timeout"]
    made = [{**key, "latent": i, "explanation": f"e{i}", "sample": "s"} for i in range(len(ends))]
    examples = [
        row("examples", **key, bucket=0, sample="s", latent=i, example=0) for i in range(len(ends))
    ]
    explanations = [
        row("explanations", **m, explainer="pattern", status=s)
        for m, s in zip(made, ends, strict=True)
    ]
    scores = [
        row("scores", **key, latent=i, explanation=f"e{i}", scorer="x", settings="s", metric="m",
            status=status)
        for i, status in ((0, "not_applicable"), (1, "http_error"))
    ]  # fmt: skip
    for name, rows in (("examples", examples), ("explanations", explanations), ("scores", scores)):
        lake.upsert(name, rows, scope=key)
    text = " ".join(shown(status(lake), 200).split())
    assert "to do 12 latents not counted: lakeinterp sample" in text
    assert "1 latent sampled, not explained" in text
    assert "1 latent explained, not scored" in text


def test_status_counts_captured_tokens_of_shards_without_a_hole(tmp_path):
    lake = planted_lake(str(tmp_path / "lake"), n_sequences=30, n_shards=3).lake
    lake.publish("activations", [], app=f"capture/{CAPTURE}/000007", version=10)
    assert "tokens 1,920;" in " ".join(shown(status(lake), 200).split())


def test_status_lists_every_table_with_its_rows(lake):
    lines = [line.split() for line in shown(status(lake), 120).splitlines()]
    rows = {line[0]: line[1] for line in lines if len(line) == 6}
    with lake.connect() as con:
        for name in lake.tables():
            (n,) = con.execute(f"SELECT count(*) FROM {name}").fetchone()
            assert rows[name] == f"{n:,}"


def test_status_counts_replies_by_what_is_known_of_their_cost(lake):
    lines = [line.split() for line in shown(status(lake), 120).splitlines()]
    costs = {line[-1] for line in lines if line[:1] == ["tiny-judge"]}
    assert costs == {"free", "unknown", "$0.0030"}


def test_status_of_an_empty_place_says_what_to_do(tmp_path):
    assert "lakeinterp capture" in shown(status(Lake(str(tmp_path))), 300)
