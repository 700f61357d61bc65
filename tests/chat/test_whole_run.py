"""Whole runs over real HTTP: what is asked in which order, read again, paid, and never told."""

import logging
import os
import threading
from itertools import groupby
from pathlib import Path

import pytest

from lakeinterp import cli, pipeline, registry
from lakeinterp.chat import ask
from lakeinterp.chat.journal import Journal
from lakeinterp.config import ChatConfig
from lakeinterp.errors import ConfigError, UnparsableReply
from lakeinterp.explain.default import DefaultExplainer
from lakeinterp.lake import Lake
from lakeinterp.terms import Explained
from tests.chat.helpers import settings, whole
from tests.rule_driven import answer
from tests.wire import KEY, KEY_ENV, Answer, Wire, error


def run(config):
    return [step(config, run="r") for step in (pipeline.explain, pipeline.score)]


def test_requests_about_one_explanation_come_together_and_their_common_part_first(sampled):
    concurrency = 4
    with Wire(answer) as wire:
        config = settings(wire, concurrency=concurrency)
        run(whole(sampled.root, config, **{"score.scorers": ["detection", "fuzzing"]}))
        asked = [[m["content"] for m in body["messages"]] for body in wire.requests]
    judged = [(system, user.partition("Texts:")) for system, user in asked if "Texts:" in user]
    assert len({system for system, _ in judged}) == 2  # of a scorer, the same for all
    # The first lines of a prompt are the explanation, so that what follows shares a prefix.
    groups = [(system, head) for system, (head, _, _) in judged]
    assert all(head.startswith("Description: ") for _, head in groups)
    sizes = [len(list(members)) for _, members in groupby(groups)]
    # One explanation's calls may only mix with the next one's where they meet.
    assert sum(size < 3 for size in sizes) <= len(sizes) / 2
    assert max(sizes) >= 5
    systems = [system for system, _ in groups]
    assert systems == sorted(systems, key=systems.index)


class Curt(DefaultExplainer):
    """The explainer with a reader whose second version reads more."""

    reads_words = False

    async def explain(self, evidence, chat):
        asked = await ask(chat, self.request(evidence), self.read)
        return Explained(
            text=asked.value,
            status=asked.status,
            reason=asked.reason,
            reply_keys=asked.reply_keys,
        )

    def read(self, text):
        if self.reads_words and text.startswith("I would say: "):
            return text.removeprefix("I would say: ")
        raise UnparsableReply("no explanation", text)


def test_replies_that_a_better_reader_reads_are_read_again_and_not_paid_again(
    sampled, monkeypatch, capsys
):
    monkeypatch.setitem(registry.EXPLAINERS, "default", f"{__name__}:Curt")
    monkeypatch.setenv(KEY_ENV, KEY)
    with Wire(lambda body: "I would say: cats") as wire:
        route = (
            f'{{model = "hosted_vllm/tiny", api_base = "{wire.url}", api_key_env = "{KEY_ENV}"}}'
        )
        command = ["explain", "--lake", sampled.root, "--explainer", "default", "--latents", "0,1"]
        command += ["--set", f"chat.explainer={{deployments = [{route}]}}"]
        assert cli.run(command) == 3
        assert wire.n_requests == 4  # each once more, with what was wrong
        assert cli.run(command) == 0  # parse_failed is an answer: nothing is asked again
        monkeypatch.setattr(Curt, "reads_words", True)
        assert cli.run(command) == 0
        assert {row["status"] for row in sampled.rows("explanations")} == {"parse_failed"}
        capsys.readouterr()
        monkeypatch.delenv(KEY_ENV)
        assert cli.run([*command, "--reread"]) == 0
        assert wire.n_requests == 4
    assert "2 ok" in capsys.readouterr().out
    rows = sampled.rows("explanations")
    assert [(row["status"], row["text"], len(row["reply_keys"])) for row in rows] == [
        ("ok", "cats", 1),
        ("ok", "cats", 1),
    ]


def test_two_processes_keep_one_budget(sampled, monkeypatch):
    monkeypatch.setenv(KEY_ENV, KEY)
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    with Wire(lambda body: Answer(text=answer(body), usage=usage)) as wire:
        priced = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
        config = settings(wire, explainer=wire.route(**priced))
        explained = pipeline.explain(whole(sampled.root, config), run="r")
        assert explained.counts == {"ok": 2}
        budget = 0.02
        limited = config.model_copy(update={"budget_usd": budget, "workers": 2})
        scored = pipeline.score(whole(sampled.root, limited), run="r")
        spent = wire.n_requests * 1010e-6
    assert set(scored.counts) == {"ok", "budget_stopped"}
    assert 0.6 * budget < spent <= budget
    known = sum(row["cost_usd"] for row in sampled.rows("replies") if row["status"] == "ok")
    assert known == pytest.approx(spent)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (
            401,
            f"401: the provider does not accept the key: check the environment variable {KEY_ENV}",
        ),
        (402, "402: the account has no credit left: add some and run it again"),
    ],
)
def test_a_refused_account_is_told_in_each_row_and_ends_the_asking_soon(sampled, status, says):
    with Wire(lambda body: error(status)) as wire:
        config = settings(wire, circuit_failures=1, outage_s=0, concurrency=1)
        done = pipeline.explain(whole(sampled.root, config), run="r")
        assert wire.n_requests == 1
    assert done.counts == {"http_error": 2}
    not_sent = "not sent: chat.explainer.deployments[0] failed 1 times in a row: "
    reasons = {row["reason"] for row in sampled.rows("explanations")}
    assert reasons == {f"{says}: no", f"{not_sent}{says}: no"}


def test_keys_are_in_no_file_of_a_run_and_in_nothing_it_says(
    sampled, tmp_path, monkeypatch, caplog, capfd
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEAM", "canary-team-77")
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    n = 0

    def moody(body):
        nonlocal n
        n += 1
        return error(500, f"no entry for {KEY} of canary-team-77") if n % 7 == 1 else answer(body)

    with Wire(moody) as wire:
        route = wire.route(headers_env={"X-Team": "TEAM"})
        config = settings(wire, explainer=route, attempts=1, journal=str(tmp_path / "journal"))
        done = run(whole(sampled.root, config))
        assert "http_error" in done[0].counts + done[1].counts
        # What waits in a journal, as after a kill, is looked at as well.
        journal = Journal(tmp_path / "journal")
        journal.put([{**row, "key": f"again-{row['key']}"} for row in sampled.rows("replies")])
        journal.close()
        assert wire.headers[0]["x-team"] == "canary-team-77"
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {"replies.sqlite", "budget.sqlite"} <= {p.name for p in files}
    said = [record.getMessage() for record in caplog.records]
    said += [str(done), *capfd.readouterr()]
    for secret in (KEY, "canary-team-77"):
        assert not [p for p in files if secret.encode() in p.read_bytes()]
        assert secret not in "\n".join(said)


def test_machines_with_journals_of_their_own_share_a_lake(sampled, tmp_path):
    with Wire(answer) as wire:
        one, other = (
            whole(sampled.root, settings(wire, journal=str(tmp_path / name)))
            for name in ("one", "other")
        )
        pipeline.explain(one, run="r")
        n_explained = wire.n_requests
        threads = [threading.Thread(target=pipeline.score, args=(c,), kwargs={"run": "r"})
                   for c in (one, other)]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        n_all = wire.n_requests
        for config in (one, other):
            assert [step.counts for step in run(config)] == [{}, {}]
        assert wire.n_requests == n_all
    keys = [row["key"] for row in sampled.rows("replies")]
    assert len(keys) == len(set(keys))
    assert n_explained < len(keys) <= n_all <= n_explained + 2 * (len(keys) - n_explained)


@pytest.mark.parametrize("place", ["s3://bucket/journal", "a-file", "a-file/below"])
def test_wrong_journal_names_its_setting_before_any_work(place, tmp_path):
    (tmp_path / "a-file").touch()
    path = place if "://" in place else str(tmp_path / place)
    config = whole(tmp_path / "lake", ChatConfig(journal=path))
    with pytest.raises(ConfigError, match=rf"^chat\.journal: '{path}': "):
        pipeline.check_chat(config)
    assert not Path(tmp_path / "lake").exists()


def test_journal_may_be_below_the_home_folder(tmp_path, monkeypatch):
    from lakeinterp.chat.store import folder_of

    monkeypatch.setenv("HOME", str(tmp_path))
    lake = Lake(str(tmp_path / "lake"))
    assert folder_of(lake, ChatConfig(journal="~/j")) == tmp_path / "j"
    assert os.listdir(tmp_path) == []
