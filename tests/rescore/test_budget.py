"""What re-scoring may spend, and what it is told to cost before anything was spent."""

from __future__ import annotations

import pytest

from lakeinterp import cli
from lakeinterp.chat.ledger import FILE, Ledger
from lakeinterp.chat.store import folder_of
from lakeinterp.errors import ConfigError
from lakeinterp.rescore import Cost, costs, past, reckoned, rescore, stale, within_budget
from tests.rescore.growing import CAPTURE, settings
from tests.rule_driven import answer
from tests.wire import Answer, Wire

ALL = 5
"""Latents with enough windows."""
PRICES = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.01}
"""A call comes to 0.05 dollars and 905 tokens, and may come to 0.50."""
USAGE = {"prompt_tokens": 900, "completion_tokens": 5, "total_tokens": 905}


def asking(grown, wire, **limits):
    chat = {"explainer": wire.route(**PRICES), "concurrency": 2}
    few = {"max_tokens": 50}
    three = {"latents": (0, 1, 2)}
    return settings(grown.root, sampling=three, explain=few, score=few, chat=chat, rescore=limits)


def versions(grown):
    return {name: grown.lake.version(name) for name in ("latents", "examples", "explanations")}


def spend(config):
    return rescore(config, run="r", capture=CAPTURE)


def test_no_night_spends_more_than_its_budget_and_nothing_is_bought_twice(grown):
    with Wire(lambda body: Answer(text=answer(body), usage=USAGE)) as wire:
        config = asking(grown, wire, max_usd=1.2)
        # What a run had set aside that was killed is no part of this budget.
        dead = Ledger(folder_of(grown.lake, config.chat) / FILE, 100.0)
        dead.hold(50.0, 10**6)
        dead._presence.close()
        # A night that begins again, as a task that is retried, has what is left of its budget.
        once = within_budget(grown.lake, config)
        nights = [[spend(once), spend(once)]]
        while nights[-1][-1].n_left and len(nights) < 5:
            nights.append([spend(config)])
        assert len(nights) > 1
        assert all(0 < sum(done.spent.usd for done in night) <= 1.2 for night in nights)
        assert wire.n_requests == sum(done.spent.n_calls for night in nights for done in night)
    assert nights[-1][-1].n_left == 0
    keys = [row["key"] for row in grown.lake.rows("replies") if row["cost_state"] == "priced"]
    assert len(set(keys)) == len(keys) == wire.n_requests


def test_a_night_tried_again_with_nothing_left_of_its_budget_writes_nothing(grown):
    usage = {"prompt_tokens": 900, "completion_tokens": 50, "total_tokens": 950}
    with Wire(lambda body: Answer(text=answer(body), usage=usage)) as wire:
        once = within_budget(grown.lake, asking(grown, wire, max_usd=7))
        assert spend(once).spent.usd == 7
        version = grown.lake.version("judgements")
        again = spend(once)
    assert again.n_left > again.n_done == 0
    assert (wire.n_requests, grown.lake.version("judgements")) == (14, version)


def test_a_budget_of_tokens_is_beyond_what_the_lake_has_spent_and_a_stricter_limit_stays(grown):
    spent = Ledger(folder_of(grown.lake, settings(grown.root).chat) / FILE)
    spent.book(spent.hold(0.5, 300), 0.5, 300)
    spent.close()
    for held, expected in ((None, 1300), (800, 800), (2000, 1300)):
        config = settings(grown.root, chat={"budget_tokens": held}, rescore={"max_tokens": 1000})
        assert within_budget(grown.lake, config).chat.budget_tokens == expected
    assert within_budget(grown.lake, settings(grown.root)) == settings(grown.root)
    part = settings(grown.root, rescore={"max_usd": 2})
    assert within_budget(grown.lake, part, Cost(usd=1.5)).chat.budget_usd == 1.0


def test_a_budget_in_dollars_wants_a_price_before_anything_is_asked(grown):
    with Wire(lambda body: Answer(text=answer(body))) as wire:
        chat = {"explainer": wire.route("openrouter/v/m")}
        few = {"max_tokens": 50}
        config = settings(grown.root, explain=few, chat=chat, rescore={"max_usd": 1})
        before = versions(grown)
        with pytest.raises(ConfigError, match=r"max_usd is set and the price of the explainer's"):
            spend(config)
        assert (wire.n_requests, versions(grown)) == (0, before)


def test_work_of_a_kind_never_done_is_reckoned_from_its_prompts(grown):
    changed = {"explain": {"explainer": "contrastive"}, "score": {"scorers": ["fuzzing"]}}
    config = settings(grown.root, **changed)
    found = stale(grown.lake, config, capture=CAPTURE)
    known = past(grown.lake, CAPTURE, "contrastive")
    assert costs(found.rows, known) == Cost(n_untold=2 * ALL)
    told = costs(found.rows, reckoned(grown.lake, config, found, known))
    assert (told.n_reckoned, told.n_untold) == (2 * ALL, 0)
    assert told.n_unknown == told.n_calls
    done, n_asked = grown.rescore(config)
    assert told.n_calls == pytest.approx(n_asked, rel=0.1)
    assert done.n_left == 0


def test_stale_tells_what_has_no_price_and_what_is_reckoned(grown, capsys):
    common = ["stale", "--lake", grown.root, "--capture", CAPTURE, "--scorers", "fuzzing"]
    common += ["--explainer", "contrastive", "--set", "score.n_borrowed=1"]
    for name, value in settings(grown.root).sampling.model_dump(exclude_defaults=True).items():
        common += ["--set", f"sampling.{name}={value}"]
    assert cli.run(common) == 0
    shown = capsys.readouterr().out
    assert "calls of unknown cost, reckoned from prompts for 10 pieces" in shown
    assert str(Cost(n_calls=5, usd=0.25, n_unknown=2)) == (
        "5 calls, 0 tokens, $0.2500 and 2 calls of unknown cost"
    )
