"""The main job from text to page: planted truth, a real server, killed and run again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lakeinterp import cli
from lakeinterp.errors import LakeinterpError
from lakeinterp.lake import Lake
from tests import tiny
from tests.chat.batchwire import BatchWire, Ending
from tests.chat.batchwire import answer as answered
from tests.rule_driven import answer
from tests.wire import KEY, KEY_ENV, Answer, Wire

EXPLAINED = """
    SELECT latent, explanation, text, status, reason, detail, reply_keys
    FROM explanations ORDER BY ALL
"""
JUDGED = "SELECT * FROM judgements ORDER BY ALL"
SCORED = "SELECT * EXCLUDE (run, created_at) FROM scores ORDER BY ALL"
BALANCED = """
    SELECT latent, value, ci_low, ci_high, null_value, n, n_failed
    FROM scores JOIN explanations USING (capture, hookpoint, latent, explanation)
    WHERE scorer = $scorer AND metric = 'balanced_accuracy' ORDER BY latent
"""
RESULTS = (EXPLAINED, JUDGED, SCORED)


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """Settings of the tiny model, and a lake with its capture and examples."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = tiny.settings(folder)
    assert lakeinterp("capture", settings, settings["lake"]) == 0
    assert lakeinterp("sample", settings, settings["lake"]) == 0
    return settings


def arguments(command: str, settings: dict[str, object], lake: object) -> list[str]:
    named = {key: value for key, value in settings.items() if key != "lake"}
    texts = [f"{k}={v if k.startswith('chat.') else json.dumps(v)}" for k, v in named.items()]
    return [command, "--lake", str(lake), *(p for text in texts for p in ("--set", text))]


def lakeinterp(command: str, settings: dict[str, object], lake: object) -> int:
    return cli.run(arguments(command, settings, lake))


def rows(lake: object, query: str, **values):
    with Lake(str(lake)).connect() as con:
        return con.execute(query, values).fetchall()


def copy(captured, place: Path) -> Path:
    """Return a copy of the captured and sampled lake."""
    import shutil

    shutil.copytree(captured["lake"], place)
    return place


def asking(captured, wire: Wire, **more) -> dict[str, object]:
    deployment = f'model="hosted_vllm/tiny", api_base="{wire.url}", api_key_env="{KEY_ENV}"'
    route = f"{{deployments = [{{{deployment}}}]}}"
    return {
        **captured,
        "explain.explainer": "default",
        "score.scorers": ["detection", "fuzzing"],
        "chat.explainer": route,
        "chat.retry_wait_s": 0,
        "chat.concurrency": 8,
        **more,
    }


def test_planted_latents_are_explained_scored_and_shown(captured, tmp_path, capsys):
    lake = copy(captured, tmp_path / "lake")
    assert lakeinterp("run", captured, lake) == 0
    text = {latent: (text, status) for latent, _, text, status, *_ in rows(lake, EXPLAINED)}
    assert text[tiny.CAT_LATENT] == ("fires on `␣cat`", "ok")
    assert text[tiny.AFTER_THE_LATENT] == ("fires on any token after `␣the`", "ok")
    assert text[tiny.DOG_AFTER_THE_LATENT] == ("fires on `␣dog` after `␣the`", "ok")

    scores = {row[0]: row[1:] for row in rows(lake, BALANCED, scorer="pattern")}
    for latent in (tiny.CAT_LATENT, tiny.AFTER_THE_LATENT):
        value, low, high, null, n, n_failed = scores[latent]
        assert value > 0.97
        assert low < value <= high
        assert null < 0.7
        assert (n, n_failed) == (40, 0)

    status = "SELECT status, n_activations FROM latents WHERE latent = $latent"
    assert rows(lake, status, latent=tiny.DEAD_LATENT) == [("dead", 0)]
    page = re.sub("<[^>]*>", "", (lake / "report.html").read_text(encoding="utf-8"))
    assert "fires on ␣dog after ␣the" in page
    assert "pattern rule, no language model" in page
    assert "the page:" in capsys.readouterr().out


def test_dead_latent_that_is_asked_for_gets_a_row_with_the_reason(captured, tmp_path):
    lake = copy(captured, tmp_path / "lake")
    assert lakeinterp("run", {**captured, "sampling.latents": [0, tiny.DEAD_LATENT]}, lake) == 0
    found = {row[0]: row[2:5] for row in rows(lake, EXPLAINED)}
    assert set(found) == {0, tiny.DEAD_LATENT}
    text, status, reason = found[tiny.DEAD_LATENT]
    assert (text, status) == (None, "too_few_examples")
    assert "0 activating windows" in reason


def test_model_behind_http_explains_and_judges_and_is_paid_once(captured, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_ENV, KEY)
    lake = copy(captured, tmp_path / "lake")
    with Wire(answer) as wire:
        settings = asking(captured, wire)
        assert lakeinterp("explain", settings, lake) == 0
        n_explained = wire.n_requests
        assert n_explained == 7
        assert lakeinterp("score", settings, lake) == 0
        n_all = wire.n_requests
        first = [rows(lake, query) for query in RESULTS]
        for step in ("explain", "score", "run"):
            assert lakeinterp(step, settings, lake) == 0
        assert wire.n_requests == n_all > n_explained
    assert [rows(lake, query) for query in RESULTS] == first
    texts = {latent: text for latent, _, text, *_ in first[0]}
    assert texts[tiny.CAT_LATENT] == "the word cat"
    assert texts[tiny.AFTER_THE_LATENT] == "any word after the"
    for scorer in ("detection", "fuzzing"):
        scores = {row[0]: row[1:] for row in rows(lake, BALANCED, scorer=scorer)}
        assert scores[tiny.CAT_LATENT][0] == 1
        assert scores[tiny.AFTER_THE_LATENT][0] > 0.9
        assert scores[tiny.CAT_LATENT][3] < 0.7
    kept = rows(lake, "SELECT count(*), count(DISTINCT key) FROM replies")
    assert kept == [(n_all, n_all)]


def test_failed_calls_are_states_and_only_they_are_tried_again(captured, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_ENV, KEY)
    lake = copy(captured, tmp_path / "lake")
    broken = True

    def moody(body):
        if broken and wire.n_requests % 3 == 0:
            return Answer(status=500)
        return answer(body)

    with Wire(moody) as wire:
        settings = asking(captured, wire, **{"chat.attempts": 1, "score.scorers": ["detection"]})
        assert lakeinterp("explain", settings, lake) == 3
        statuses = dict(rows(lake, "SELECT status, count(*) FROM explanations GROUP BY 1"))
        assert set(statuses) == {"ok", "http_error"}
        assert rows(
            lake, "SELECT count(*) FROM explanations WHERE status <> 'ok' AND text IS NOT NULL"
        ) == [(0,)]
        broken, before = False, wire.n_requests
        assert lakeinterp("explain", settings, lake) == 0
        assert wire.n_requests - before == statuses["http_error"]
        broken = True
        assert lakeinterp("score", settings, lake) == 3
        failed = (
            "SELECT count(*) FROM judgements WHERE status = 'http_error' AND prediction IS NULL"
        )
        assert rows(lake, failed)[0][0] > 0
        assert rows(lake, "SELECT max(n_failed) FROM scores")[0][0] > 0
        broken = False
        assert lakeinterp("score", settings, lake) == 0
        assert rows(lake, failed) == [(0,)]
    undisturbed = copy(captured, tmp_path / "undisturbed")
    with Wire(answer) as calm:
        settings = asking(captured, calm, **{"chat.attempts": 1, "score.scorers": ["detection"]})
        assert lakeinterp("explain", settings, undisturbed) == 0
        assert lakeinterp("score", settings, undisturbed) == 0
    for query in RESULTS:
        assert rows(lake, query) == rows(undisturbed, query)


def killed(command: str, settings: dict[str, object], lake: Path, wire: Wire, n: int) -> None:
    """Start a command as a user would and SIGKILL it after `n` more requests."""
    stop = wire.n_requests + n
    process = start(command, settings, lake)
    deadline = time.monotonic() + 120
    while wire.n_requests < stop:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def start(command: str, settings: dict[str, object], lake: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "lakeinterp", *arguments(command, settings, lake)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_explain_and_score_killed_and_run_again_give_the_rows_of_an_undisturbed_run(
    captured, tmp_path, monkeypatch
):
    monkeypatch.setenv(KEY_ENV, KEY)
    concurrency = 4

    def slowly(body):
        time.sleep(0.03)
        return answer(body)

    lake, undisturbed = copy(captured, tmp_path / "a"), copy(captured, tmp_path / "b")
    with Wire(answer) as calm:
        settings = asking(captured, calm)
        assert lakeinterp("explain", settings, undisturbed) == 0
        assert lakeinterp("score", settings, undisturbed) == 0
        n_needed = calm.n_requests
    with Wire(slowly) as wire:
        settings = asking(captured, wire, **{"chat.concurrency": concurrency})
        killed("explain", settings, lake, wire, 3)
        assert len(rows(lake, EXPLAINED)) < 7
        assert lakeinterp("explain", settings, lake) == 0
        killed("score", settings, lake, wire, 60)
        killed("score", settings, lake, wire, 60)
        assert lakeinterp("score", settings, lake) == 0
        n_made = wire.n_requests
    for query in RESULTS:
        assert rows(lake, query) == rows(undisturbed, query)
    # Of each kill those in flight, and those whose replies were on their way to the disk.
    assert n_needed <= n_made <= n_needed + 3 * 2 * concurrency


@pytest.mark.slow
def test_two_workers_write_the_rows_of_one_and_buy_nothing_twice(captured, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_ENV, KEY)
    alone, shared = copy(captured, tmp_path / "alone"), copy(captured, tmp_path / "shared")
    with Wire(answer) as wire:
        settings = asking(captured, wire)
        assert lakeinterp("explain", settings, alone) == 0
        assert lakeinterp("explain", {**settings, "chat.workers": 2}, shared) == 0
        assert wire.n_requests == 2 * 7
        with pytest.raises(LakeinterpError, match=r"chat\.explainer\.deployments\[0\]"):
            work_without_a_key(settings, shared, monkeypatch)
    assert rows(shared, EXPLAINED) == rows(alone, EXPLAINED)


def work_without_a_key(settings, lake, monkeypatch):
    """Let a worker find what the command would have found before it started one."""
    from lakeinterp import config, workers
    from lakeinterp.lake import units

    monkeypatch.delenv(KEY_ENV)
    loaded = config.load(values={"lake": str(lake)}, overrides=arguments("", settings, lake)[4::2])
    found = units.units(Lake(str(lake)), Lake(str(lake)).capture(None)["capture"])
    workers.over_units(loaded, "explain", found, run="r")


def test_replies_of_batch_files_lead_to_the_rows_of_direct_calls(captured, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_ENV, KEY)
    direct, batched = copy(captured, tmp_path / "direct"), copy(captured, tmp_path / "batched")
    with Wire(answer) as wire:
        few = {"score.scorers": ["detection"], "sampling.latents": [0, 1]}
        settings = asking(captured, wire, **few)
        for step in ("explain", "score"):
            assert lakeinterp(step, settings, direct) == 0
    with BatchWire(
        lambda lines: Ending(output=[answered(line, answer(line["body"])) for line in lines])
    ) as wire:
        address = wire.route().deployments[0].api_base
        route = f'{{deployments = [{{model = "openai/tiny", api_base = "{address}"}}]}}'
        settings |= {"chat.explainer": route}
        for step in ("explain", "score"):
            assert cli.run(["llm", "batch", "submit", step, *batch(settings, batched)]) == 0
            assert lakeinterp(step, settings, batched) == 0  # awaited: nobody is asked
            assert cli.run(["llm", "batch", "collect", *batch(settings, batched)]) == 0
            assert lakeinterp(step, settings, batched) == 0
        assert cli.run(["llm", "batch", "status", *batch(settings, batched)]) == 0
        assert len(wire.batches) == 2
    values = "SELECT latent, text, status FROM explanations ORDER BY ALL"
    judged = "SELECT latent, item, truth, prediction, status FROM judgements ORDER BY ALL"
    assert rows(batched, values) == rows(direct, values)
    assert rows(batched, judged) == rows(direct, judged)
    balanced = "SELECT latent, value, n FROM scores WHERE metric = 'balanced_accuracy' ORDER BY ALL"
    assert rows(batched, balanced) == rows(direct, balanced)


def batch(settings: dict[str, object], lake: object) -> list[str]:
    return arguments("", settings, lake)[1:]
