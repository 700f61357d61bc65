"""Money: nothing is spent beyond the budget, over processes, restarts and crashes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakeinterp import cli
from lakeinterp.chat import ledger as ledgers
from lakeinterp.chat.ledger import Ledger, Purse, Spent
from lakeinterp.errors import BudgetStopped
from tests.chat.helpers import ask_stored, question, settings
from tests.wire import Answer, Wire, error

PRICES = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.01}


def paid(wire, budget, **values):
    return settings(wire, explainer=wire.route(**PRICES), budget_usd=budget, **values)


def questions(first, last):
    return [question(str(i), max_tokens=50) for i in range(first, last)]


def ten_tokens(body):
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    return Answer(text="x", usage=usage)


def test_budget_stops_calls_and_counts_earlier_runs(lake):
    with Wire(ten_tokens) as wire:
        # a call may cost 0.50 and does cost 0.10: the sixth finds 0.50 spent
        replies, _ = ask_stored(lake, paid(wire, 0.95, concurrency=1), *questions(0, 8))
        assert [r.status for r in replies] == ["ok"] * 5 + ["budget_stopped"] * 3
        assert wire.n_requests == 5
        assert "chat.budget_usd = 0.95: 0.5 spent" in replies[-1].reason
        replies, stats = ask_stored(lake, paid(wire, 1.05, concurrency=1), *questions(0, 8))
        assert [r.status for r in replies] == ["ok"] * 6 + ["budget_stopped"] * 2
        assert (wire.n_requests, stats.n_stored) == (6, 5)
        assert stats.cost_usd == pytest.approx(0.1)
    assert sum(row["cost_usd"] for row in lake.rows("replies")) == pytest.approx(0.6)


def test_calls_wait_for_money_that_calls_in_flight_have_set_aside(lake):
    # a call may cost 0.50 and does cost 0.05: two at a time, until 0.70 is spent
    with Wire(lambda body: Answer(text="x", delay_s=0.02)) as wire:
        replies, _ = ask_stored(lake, paid(wire, 1.22), *questions(0, 18))
        assert (wire.n_requests, wire.most_open) == (15, 2)
    assert sorted(r.status for r in replies) == ["budget_stopped"] * 3 + ["ok"] * 15


def test_money_set_aside_by_a_process_that_dies_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "_LOOK_S", 0.01)
    living, dying = (Ledger(tmp_path / "budget.sqlite", 1.0) for _ in range(2))

    async def both():
        dying.hold(0.4, 1)
        dying._presence.close()
        await Purse(living, patience_s=60).hold(0.7, 1)

    with pytest.raises(BudgetStopped, match=r"0\.4 spent, 0 set aside"):
        asyncio.run(both())
    living.close()


def test_money_that_does_not_come_back_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "_LOOK_S", 0.01)
    ledger = Ledger(tmp_path / "budget.sqlite", 1.0)
    ledger.hold(0.4, 1)
    with pytest.raises(BudgetStopped, match=r"0 spent, 0\.4 set aside"):
        asyncio.run(Purse(ledger, patience_s=0.05).hold(0.7, 1))
    ledger.close()


def test_unknown_price_stops_before_the_first_call(lake):
    with Wire(ten_tokens) as wire:
        config = settings(wire, explainer=wire.route("openrouter/v/m"), budget_usd=5)
        (reply,), _ = ask_stored(lake, config, question())
        assert (reply.status, wire.n_requests) == ("budget_stopped", 0)
    assert "input_cost_per_token" in reply.reason


def test_free_calls_go_on_under_a_budget_of_nothing(lake):
    with Wire(ten_tokens) as wire:
        replies, _ = ask_stored(lake, settings(wire, budget_usd=0), *questions(0, 3))
    assert {r.status for r in replies} == {"ok"}


def test_reply_without_token_counts_is_charged_at_the_most_it_can_cost(lake):
    with Wire(lambda body: Answer(text="x", usage=None)) as wire:
        replies, stats = ask_stored(lake, paid(wire, 1.1, concurrency=1), *questions(0, 4))
        assert [r.status for r in replies] == ["ok", "ok", "budget_stopped", "budget_stopped"]
    assert (replies[0].cost_state, replies[0].cost_usd) == ("unknown", None)
    assert "2 of unknown cost" in str(stats)


def test_errors_the_provider_answers_cost_nothing_and_timeouts_may(lake):
    with Wire(lambda body: error(500)) as wire:
        replies, _ = ask_stored(lake, paid(wire, 0.6, attempts=5, concurrency=1), *questions(0, 3))
        assert {r.status for r in replies} == {"http_error"}
    with Wire(lambda body: Answer(text="x", delay_s=5)) as wire:
        config = paid(wire, 0.6, attempts=1, timeout_s=0.2, concurrency=1)
        replies, _ = ask_stored(lake, config, *questions(0, 2))
    assert [r.status for r in replies] == ["timeout", "budget_stopped"]
    assert replies[0].cost_state == "unknown"


def test_two_ledgers_share_one_budget(tmp_path):
    path = tmp_path / "ledger.sqlite"
    one, other = Ledger(path, 1.0), Ledger(path, 1.0, spent=Spent(0.3))
    hold = one.hold(0.5, 10)
    with pytest.raises(BudgetStopped, match=r"0\.3 spent, 0\.5 set aside"):
        other.hold(0.3, 10)
    one.book(hold, 0.1, 5)
    other.book(other.hold(0.3, 10), None, None)
    assert one.spent.usd == pytest.approx(0.7)
    one.close()
    other.close()


def test_money_set_aside_by_a_killed_process_is_booked(tmp_path):
    path = tmp_path / "ledger.sqlite"
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from lakeinterp.chat.ledger import Ledger;"
        "Ledger(Path(sys.argv[1]), 1.0).hold(0.4, 7); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    ledger = Ledger(path, 1.0, spent=Spent(0.1))
    assert ledger.spent.usd == pytest.approx(0.5)
    ledger.close()
    assert os.path.exists(path)


def test_budget_of_tokens_counts_earlier_runs_and_any_price(lake):
    with Wire(ten_tokens) as wire:
        # A call may come to 50 + 17 bytes, and does come to 20.
        config = settings(wire, budget_tokens=110, concurrency=1)
        replies, stats = ask_stored(lake, config, *questions(0, 8))
        assert [r.status for r in replies] == ["ok"] * 3 + ["budget_stopped"] * 5
        assert "chat.budget_tokens = 110: 60 spent" in replies[-1].reason
        assert (wire.n_requests, stats.n_tokens) == (3, 60)
        (reply,), _ = ask_stored(lake, config, question("9"))
        assert (reply.status, wire.n_requests) == ("budget_stopped", 3)


def test_process_without_a_budget_books_for_those_that_have_one(tmp_path):
    path = tmp_path / "budget.sqlite"
    free, limited = Ledger(path), Ledger(path, 1.0, 100)
    free.book(free.hold(None, 30), 0.8, 30)
    free.book(free.hold(0.1, 40), None, None)
    assert limited.spent == pytest.approx((0.9, 70))
    with pytest.raises(BudgetStopped, match=r"budget_tokens = 100: 70 spent, .*come to 31"):
        limited.hold(0.0, 31)
    limited.hold(0.1, 30)
    free.close()
    limited.close()


def test_number_of_a_dead_process_that_is_used_again_holds_nothing(tmp_path):
    ledger = Ledger(tmp_path / "budget.sqlite", 1.0)
    ledger.hold(0.4, 1)
    ledger._presence.close()  # and this process has the same number
    again = Ledger(tmp_path / "budget.sqlite", 1.0)
    assert again.spent.usd == pytest.approx(0.4)
    again.close()


def test_what_the_lake_holds_counts_where_the_ledger_is_lost(lake):
    with Wire(ten_tokens) as wire:
        ask_stored(lake, paid(wire, None), *questions(0, 4))
        for file in (Path(lake.root) / "_journal").glob("budget*"):
            file.unlink()
        (reply,), _ = ask_stored(lake, paid(wire, 0.8), question("5", max_tokens=50))
        assert (reply.status, wire.n_requests) == ("budget_stopped", 4)
    assert "0.4 spent" in reply.reason


def test_reply_after_a_try_that_may_be_billed_is_of_unknown_cost_and_its_own_is_kept(lake):
    answers = [Answer(text="y" * 5000, cut=True), ten_tokens(None)]
    with Wire(lambda body: answers.pop(0)) as wire:
        config = paid(wire, 5.0, timeout_s=60, concurrency=1)
        (reply,), stats = ask_stored(lake, config, question())
    assert (reply.status, reply.attempts) == ("ok", 2)
    assert (reply.cost_usd, reply.cost_state) == (pytest.approx(0.1), "unknown")
    assert stats.cost == "$0.1000, 1 of unknown cost"
    spent = ledgers.spent_in(Path(lake.root) / "_journal" / ledgers.FILE)
    assert spent.usd == pytest.approx(0.5 + 0.1)


def test_count_of_replies_tells_what_the_budget_counts(lake, capsys):
    with Wire(lambda body: Answer(text="y" * 5000, cut=True)) as wire:
        config = paid(wire, 5.0, timeout_s=60, attempts=2)
        ask_stored(lake, config, question())
    assert cli.run(["replies", "count", "--lake", lake.root]) == 0
    said = capsys.readouterr().out
    assert "unknown" in said
    assert "the budget counts $1.0000 and 142 tokens as spent" in said
