"""Money: nothing is spent beyond the budget, over processes, restarts and crashes."""

import os
import subprocess
import sys

import pytest

from lakeinterp.chat.ledger import Ledger
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


def test_money_for_calls_in_flight_is_set_aside(lake):
    with Wire(lambda body: Answer(text="x", delay_s=0.2)) as wire:
        replies, _ = ask_stored(lake, paid(wire, 1.2), *questions(0, 6))
        assert wire.n_requests == 2
    assert sorted(r.status for r in replies) == ["budget_stopped"] * 4 + ["ok"] * 2


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
    one, other = Ledger(path, 1.0, 0.0), Ledger(path, 1.0, 0.3)
    hold = one.hold(0.5)
    with pytest.raises(BudgetStopped, match=r"0\.3 spent, 0\.5 set aside"):
        other.hold(0.3)
    one.book(hold, 0.1)
    other.book(other.hold(0.3), None)
    assert one.spent_usd == pytest.approx(0.7)
    one.close()
    other.close()


def test_money_set_aside_by_a_killed_process_is_booked(tmp_path):
    path = tmp_path / "ledger.sqlite"
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from lakeinterp.chat.ledger import Ledger;"
        "Ledger(Path(sys.argv[1]), 1.0, 0.0).hold(0.4); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    ledger = Ledger(path, 1.0, 0.1)
    assert ledger.spent_usd == pytest.approx(0.5)
    ledger.close()
    assert os.path.exists(path)
