"""Stored replies alone: offline runs, reading again with another reader."""

import asyncio
from functools import partial

import pytest

from lakeinterp.chat import ask, open_chat, parse_labels
from lakeinterp.errors import Deferred, NotFound, UnparsableReply
from lakeinterp.pipeline import check_chat
from tests.chat.helpers import ask_stored, question, settings
from tests.wire import KEY_ENV, Wire, error


def offline(config, **values):
    return config.model_copy(update={"offline": True, **values})


def test_offline_run_answers_from_the_lake_and_needs_neither_key_nor_server(lake, monkeypatch):
    with Wire(lambda body: "bought") as wire:
        config = settings(wire)
        bought, _ = ask_stored(lake, config, question())
    monkeypatch.delenv(KEY_ENV, raising=False)
    found, stats = ask_stored(lake, offline(config), question())
    assert found == bought
    assert (stats.n_stored, stats.n_calls) == (1, 0)


def test_offline_miss_is_an_error_that_names_the_key(lake):
    with Wire(lambda body: "x") as wire:
        config = offline(settings(wire))
        key = question("new").key("hosted_vllm/tiny")
        with pytest.raises(NotFound, match=f"unknown stored reply '{key}'.*chat.offline"):
            ask_stored(lake, config, question("new"))
        assert wire.n_requests == 0


def test_failure_of_an_earlier_run_is_an_offline_miss(lake):
    with Wire(lambda body: error(500)) as wire:
        config = settings(wire, attempts=1)
        ask_stored(lake, config, question())
        with pytest.raises(NotFound, match="stored reply"):
            ask_stored(lake, offline(config), question())
        assert wire.n_requests == 1


def read(lake, config, parse):
    async def whole():
        async with open_chat(lake, config) as chat:
            return await ask(chat, question(), parse)

    return asyncio.run(whole())


def other_reader(text):
    if text.startswith("labels are"):
        return [word == "on" for word in text.split()[2:]]
    raise UnparsableReply("another error than before", text)


@pytest.mark.parametrize("mode", ["offline", "reread"])
def test_another_reader_reads_what_was_bought_without_buying(lake, mode):
    with Wire(lambda body: "labels are on off") as wire:
        config = settings(wire)
        assert read(lake, config, partial(parse_labels, n=2)).status == "parse_failed"
        assert wire.n_requests == 2
        again = config.model_copy(update={mode: True})
        found = read(lake, again, other_reader)
        assert (found.status, found.value) == ("ok", [True, False])
        assert wire.n_requests == 2


@pytest.mark.parametrize("mode", ["offline", "reread"])
def test_reader_that_fails_otherwise_asks_no_second_time(lake, mode):
    with Wire(lambda body: "nothing") as wire:
        config = settings(wire)
        read(lake, config, partial(parse_labels, n=2))
        found = read(lake, config.model_copy(update={mode: True}), other_reader)
        assert (found.status, found.reason) == ("parse_failed", "another error than before")
        assert wire.n_requests == 2


def test_what_cannot_be_read_again_is_left_as_it_is(lake):
    with Wire(lambda body: "x") as wire:
        config = settings(wire, reread=True)
        with pytest.raises(Deferred, match="no reply of hosted_vllm/tiny is stored"):
            ask_stored(lake, config, question())
        assert wire.n_requests == 0
    assert "parse_failed" in config.tried_again
    assert "parse_failed" not in settings(wire).tried_again


def test_check_before_a_run_wants_no_key_offline(monkeypatch):
    from lakeinterp.config import Config, ScoreConfig

    with Wire(lambda body: "x") as wire:
        chat = offline(settings(wire))
    monkeypatch.delenv(KEY_ENV, raising=False)
    check_chat(Config(chat=chat, score=ScoreConfig(scorers=("detection",))))
