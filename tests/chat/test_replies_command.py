"""`lakeinterp replies`: list, show, count, export, move; and the live line."""

import json
import time

import polars as pl
import pytest

from lakeinterp import cli
from lakeinterp.chat import ChatStats, Reply
from lakeinterp.chat.journal import Journal
from lakeinterp.chat.store import journal_folder
from lakeinterp.lake import Lake
from tests.chat.helpers import ask_stored, question, settings
from tests.wire import Answer, Wire

ESCAPE = "evil \x1b[31m[bold]red[/bold]"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake of three replies."""
    answers = {"a": ESCAPE, "b": Answer(text=None, refusal="no"), "c": "fine\nhere"}
    made = Lake(str(tmp_path_factory.mktemp("replies")))
    with Wire(lambda body: answers[body["messages"][0]["content"]]) as wire:
        ask_stored(made, settings(wire), question("a"), question("b"))
        ask_stored(made, settings(wire), question("c", route="explainer"))
    return made


@pytest.fixture
def asked(lake, capsys):
    """Return a function that runs the command and returns its exit code and output."""

    def run(*arguments):
        code = cli.run(["replies", *arguments, "--lake", lake.root])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_list_shows_the_newest_first_and_filters(asked, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    code, out, _ = asked("list")
    assert code == 0
    assert out.index("fine") < out.index("evil")
    assert "\x1b[31m" not in out
    _, out, _ = asked("list", "--status", "refused", "--route", "judge")
    assert "the model declined: no" in out
    assert "fine" not in out


@pytest.mark.parametrize("wrong", [["--status", "good"], ["--route", "x"], ["--limit", "0"]])
def test_wrong_choice_is_refused(asked, wrong):
    code, out, err = asked("list", *wrong)
    assert (code, out) == (2, "")
    assert wrong[0] in err


def test_show_prints_one_reply_whole(asked, lake):
    key = next(row["key"] for row in lake.rows("replies") if row["text"] == ESCAPE)
    code, out, _ = asked("show", key[:10])
    assert code == 0
    for part in (
        key,
        "--- user\na",
        "evil \\u001b[31m[bold]red[/bold]",
        "free",
        '"max_tokens": 50',
    ):
        assert part in out
    code, _, err = asked("show", "ffff" * 8)
    assert (code, "replies list" in err) == (2, True)
    code, _, err = asked("show", "")
    assert (code, "several replies" in err) == (2, True)


def test_count_says_status_and_cost_state(asked):
    code, out, _ = asked("count")
    assert code == 0
    assert "refused" in out
    assert "free" in out


def test_export_writes_what_reads_back(asked, lake, tmp_path):
    for name in ("r.jsonl", "r.parquet"):
        assert asked("export", str(tmp_path / name))[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    table = pl.read_parquet(tmp_path / "r.parquet").to_dicts()
    kept = {row["key"]: row["text"] for row in lake.rows("replies")}
    assert {row["key"]: row["text"] for row in rows} == kept
    assert {row["key"]: row["text"] for row in table} == kept
    assert {row["request"]["messages"][0]["content"] for row in rows} == {"a", "b", "c"}
    code, _, err = asked("export", str(tmp_path / "r.txt"))
    assert (code, ".jsonl or .parquet" in err) == (2, True)


def test_replies_left_by_a_killed_run_are_told_and_moved(asked, lake):
    row = lake.rows("replies")[0] | {"key": "0" * 32}
    journal = Journal(journal_folder(lake))
    journal.put([row])
    journal.close()
    _, _, err = asked("count")
    assert "1 more are in the journal" in err
    assert asked("move")[1] == "1 replies moved\n"
    assert len(lake.rows("replies")) == 4
    assert "journal" not in asked("count")[2]


def test_line_below_the_bar_says_calls_tokens_cost_failures_and_speed(capsys, monkeypatch):
    from lakeinterp.commands import progress

    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.05)
    stats = ChatStats(n_stored=2)
    for state, usd in (("priced", 0.25), ("free", 0.0), ("unknown", None)):
        stats.bought(
            Reply(
                key="",
                status="ok",
                text="x",
                prompt_tokens=1000,
                completion_tokens=10,
                cost_usd=usd,
                cost_state=state,
            )
        )
    stats.statuses["timeout"] += 1
    with progress.UnitProgress("explain") as bar:
        bar.watch(stats)
        bar(1, 4)
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith("explain 1 of 4 units, 3 calls (")
    assert (
        "/s), 2 from the lake, 3,030 tokens, $0.2500, 1 free, 1 of unknown cost, 1 failed" in said
    )
    assert "s left" in said
