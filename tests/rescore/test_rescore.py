"""Each reason by a planted change; what is redone, what it costs, what stays as history."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lakeinterp import cli
from lakeinterp.chat.scripted import ScriptedChat
from lakeinterp.chat.types import Reply
from lakeinterp.errors import ConfigError
from lakeinterp.rescore import costs, past, rescore, stale
from lakeinterp.rescore.run import affordable
from tests.rescore.growing import CAPTURE, HOOKPOINT, KEY, rows_of, settings

ALL = 5
"""Latents with enough windows."""


def found(grown, config):
    return stale(grown.lake, config, capture=CAPTURE)


def aged(grown, table, days, **values):
    """Make some rows of a table older than they are."""
    rows = [r for r in grown.lake.rows(table) if r["capture"] == CAPTURE]
    rows = [r for r in rows if all(r[k] == v for k, v in values.items())]
    old = [r | {"created_at": r["created_at"] - timedelta(days=days)} for r in rows]
    assert grown.lake.upsert(table, old, scope=KEY) > 0


def kept(row):
    """Return what no later judgement changes: intervals learn from all explanations of a latent."""
    columns = ("latent", "explanation", "settings", "text", "scorer", "metric", "item", "value")
    return tuple(row.get(c) for c in (*columns, "prediction", "status"))


def changed_prompt(grown, tmp_path):
    assert cli.run(["prompts", "--copy", str(tmp_path / "prompts")]) == 0
    path = tmp_path / "prompts" / "explain" / "default_system.md"
    path.write_text(path.read_text(encoding="utf-8") + "\nBe brief.\n", encoding="utf-8")
    return {"explain": {"prompts": str(tmp_path / "prompts")}}


CHANGES = {
    "prompt": changed_prompt,
    "judge": lambda *_: {"score": {"max_tokens": 99}},
}


@pytest.mark.parametrize("reason", CHANGES)
def test_a_change_makes_stale_what_it_touches_and_rescore_leaves_nothing_stale(
    grown, tmp_path, capsys, reason
):
    config = settings(grown.root, **CHANGES[reason](grown, tmp_path))
    before = {name: rows_of(grown.lake, name) for name in ("explanations", "scores", "judgements")}
    assert found(grown, config).reasons == {reason: ALL}
    done, n_asked = grown.rescore(config)
    assert (done.n_done, done.n_left, done.n_failed) == (ALL, 0, 0)
    n_explained = len([r for r in grown.asked if r.route == "explainer"])
    assert n_explained == (0 if reason == "judge" else ALL)
    # The same words are judged as before: their replies are in the lake.
    assert n_asked == n_explained if reason == "prompt" else n_asked > n_explained
    for name, rows in before.items():
        held = rows_of(grown.lake, name)
        assert {kept(r) for r in rows} <= {kept(r) for r in held}, f"history of {name}"
        assert (len(held) > len(rows)) == (name != "explanations" or reason != "judge")
    again, n_asked = grown.rescore(config)
    assert (n_asked, again.n_done) == (0, 0)
    assert not found(grown, settings(grown.root)).rows, "what stood under the old settings stands"


def test_an_old_score_is_judged_anew_and_the_old_one_is_history(grown):
    config = settings(grown.root, rescore={"older_than_days": 7})
    assert not found(grown, config).rows
    aged(grown, "scores", 8, latent=1)
    found_now = found(grown, config)
    assert [(r.latent, r.reasons, r.turn) for r in found_now.rows] == [(1, ("older",), 1)]
    assert not found(grown, settings(grown.root)).rows
    n_before = len(rows_of(grown.lake, "scores", latent=1))
    done, n_asked = grown.rescore(config)
    assert done.n_done == 1
    assert {r.route for r in grown.asked} == {"judge"}
    assert n_asked == costs(found_now.rows, past(grown.lake, CAPTURE, "default")).n_calls > 0
    assert all(r.repeat >= 1000 for r in grown.asked)
    rows = rows_of(grown.lake, "scores", latent=1)
    assert len(rows) == 2 * n_before
    assert len({r["settings"] for r in rows}) == 2
    assert not found(grown, config).rows
    assert len(rows_of(grown.lake, "explanations")) == ALL


def test_a_wide_interval_gets_more_examples_and_a_null_and_no_new_explanation(grown):
    wide = {r["latent"]: r["ci_high"] - r["ci_low"] for r in rows_of(grown.lake, "scores")
            if r["metric"] == "balanced_accuracy"}  # fmt: skip
    order = sorted(wide, key=lambda i: -wide[i])
    limit = (wide[order[0]] + wide[order[1]]) / 2
    config = settings(grown.root, rescore={"wider_than": limit})
    rows = found(grown, config).rows
    # One borrows from another, so the next widest comes along.
    assert {r.latent for r in rows} == set(order[:2])
    assert {(r.reasons, r.level, r.turn) for r in rows} == {(("wider",), 1, 0)}
    done, _ = grown.rescore(settings(grown.root, rescore={"wider_than": limit, "max_latents": 2}))
    assert done.n_done == 2
    assert not [r for r in grown.asked if r.route == "explainer"]
    for latent in order[:2]:
        of = {"latent": latent, "metric": "balanced_accuracy"}
        old, new = rows_of(grown.lake, "scores", **of)
        first, second = sorted((old, new), key=lambda r: r["n"])
        assert second["n"] > 1.5 * first["n"]
        assert second["null_value"] is not None
    assert not found(grown, settings(grown.root)).rows, "the larger sample stands too"


def test_what_failed_in_passing_is_tried_again_and_what_failed_for_good_if_asked(grown):
    config = settings(grown.root, explain={"max_tokens": 77})

    def broken(request):
        asked = " ".join(m.content for m in request.messages)
        if request.route == "explainer" and request.repeat < 1000:
            if "cat" in asked.split("\n")[-3]:
                return Reply(key="", status="timeout", text=None)
            return "no explanation"
        return grown._answer(request)

    done, _ = grown.rescore(config, chat=ScriptedChat(broken))
    statuses = {r["latent"]: r["status"] for r in rows_of(grown.lake, "explanations")
                if r["settings"] != rows_of(grown.lake, "explanations")[0]["settings"]}  # fmt: skip
    assert done.n_failed > 0
    assert "parse_failed" in statuses.values()
    again = found(grown, config)
    assert set(again.reasons) <= {"failed"}
    assert {r.latent for r in again.rows} == {i for i, s in statuses.items() if s == "timeout"}
    asked = settings(grown.root, explain={"max_tokens": 77}, rescore={"failed": True})
    rows = found(grown, asked).rows
    assert {r.latent for r in rows} == {i for i, s in statuses.items() if s != "ok"}
    assert {r.explain_turn for r in rows if statuses[r.latent] == "parse_failed"} == {1}
    done, _ = grown.rescore(asked, chat=ScriptedChat(broken))
    left = {r.latent for r in found(grown, asked).rows}
    assert left == {i for i, s in statuses.items() if s == "timeout"}


def test_a_budget_takes_what_matters_most_and_the_next_run_goes_on(grown):
    config = settings(grown.root, score={"max_tokens": 99}, rescore={"max_calls": 30})
    known = past(grown.lake, CAPTURE, "default")
    first = found(grown, config)
    assert affordable(first.rows, known, config.rescore) == list(first.rows[:3])
    left, n_calls = ALL, []
    while left:
        done, n_asked = grown.rescore(config)
        assert done.n_left == left - done.n_done < left
        assert n_asked <= 30
        n_calls.append(n_asked)
        left = done.n_left
    assert len(n_calls) > 1
    assert sum(n_calls) == costs(first.rows, known).n_calls


def test_other_settings_of_the_explainer_are_a_reason_and_none_of_another_explainer(grown):
    assert found(grown, settings(grown.root, explain={"n_shown": 4})).reasons == {"settings": ALL}
    seeded = found(grown, settings(grown.root, sampling={"seed": 1}))
    assert seeded.reasons == {"examples": ALL}
    assert seeded.n_due == 3
    other = settings(grown.root, explain={"explainer": "pattern"}, score={"scorers": ["pattern"]})
    assert found(grown, other).reasons == {"unexplained": ALL}


def test_missing_and_failed_come_first_then_changes_then_age(grown):
    config = settings(grown.root, rescore={"older_than_days": 7})
    aged(grown, "scores", 9, latent=0)
    aged(grown, "scores", 8, latent=1)
    rows = rows_of(grown.lake, "explanations", latent=4)
    grown.lake.upsert("explanations", [{**rows[0], "prompt": "other", "run": "r",
                                        "created_at": None}], scope=KEY)  # fmt: skip
    grown.lake.replace("scores", [], where=f"capture = '{CAPTURE}' AND latent = 5")
    order = [(r.latent, r.reasons) for r in found(grown, config).rows]
    assert order == [(5, ("unscored",)), (4, ("prompt",)), (0, ("older",)), (1, ("older",))]
    one = affordable(
        found(grown, config).rows, {}, config.rescore.model_copy(update={"max_latents": 1})
    )
    assert [r.latent for r in one] == [5]


class Killed(RuntimeError):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize("n_calls", [9])
def test_a_killed_rescore_is_completed_by_the_next_and_no_reply_is_bought_twice(grown, n_calls):
    grown.capture()
    asked, limit = [], n_calls

    def until(request):
        if len(asked) >= limit:
            raise Killed
        asked.append(request)
        return grown._answer(request)

    config = settings(grown.root, chat={"concurrency": 1})
    with pytest.raises(Killed):
        rescore(config, run="r", capture=CAPTURE, chat=ScriptedChat(until))
    limit = 10**9
    done, _ = grown.rescore(config, chat=ScriptedChat(until))
    assert done.n_left == 0
    assert len({r.key("m") for r in asked}) == len(asked)
    assert not found(grown, config).rows


def test_stale_shows_counts_reasons_cost_and_first_rows(grown, tmp_path, capsys):
    common = ["--lake", grown.root, "--capture", CAPTURE, "--explainer", "default", "--scorers"]
    common += ["detection"]
    for name, value in settings(grown.root).sampling.model_dump(exclude_defaults=True).items():
        common += ["--set", f"sampling.{name}={value}"]
    common += ["--set", "score.n_borrowed=1", "--set", "score.repeat_share=0"]
    assert cli.run(["stale", *common]) == 0
    assert "nothing of 5 latents is out of date" in capsys.readouterr().out
    grown.capture()
    assert cli.run(["stale", *common, "--output", str(tmp_path / "stale.csv")]) == 0
    assert (tmp_path / "stale.csv").read_text().count("\n") == 4
    assert cli.run(["stale", *common]) == 0
    shown = capsys.readouterr().out
    assert "2 of 3 units are counted and drawn again first" in shown
    assert "3 of 5 latents have something out of date" in shown
    assert "3  tokens       made from fewer tokens" in shown
    assert "calls" in shown.split("at most")[1]
    assert f"{HOOKPOINT} 0" in shown
    assert cli.run(["rescore", *common, "--older-than", "soon"]) == 2
    assert "write a number and m, h, d or w, for example 7d" in capsys.readouterr().err


def test_a_model_is_needed_only_if_there_is_something_to_ask(grown):
    config = settings(grown.root)
    assert rescore(config, run="r", capture=CAPTURE).n_done == 0
    grown.capture()
    names = ("latents", "examples", "history")
    versions = [grown.lake.version(name) for name in names]
    with pytest.raises(ConfigError, match="chat"):
        rescore(config, run="r", capture=CAPTURE)
    assert [grown.lake.version(name) for name in names] == versions
