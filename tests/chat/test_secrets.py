"""What deployments are sent besides, and that nothing secret is ever shown or stored."""

import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lakeinterp.chat import LiteLLMChat
from lakeinterp.config import ChatConfig, load
from lakeinterp.errors import ConfigError
from tests.chat.helpers import ask_directly, ask_stored, question, settings
from tests.wire import KEY, Answer, Wire, error

HIDDEN = "team-secret-77aa"


@pytest.fixture
def route(monkeypatch):
    monkeypatch.setenv("TEAM", HIDDEN)

    def made(wire, **values):
        headers = {"headers": {"X-Title": "lake"}, "headers_env": {"X-Team": "TEAM"}}
        return wire.route(**{**headers, **values})

    return made


@pytest.mark.parametrize("model", ["hosted_vllm/tiny", "openai/tiny", "openrouter/v/tiny"])
def test_headers_and_body_are_sent(route, model):
    body = {"provider": {"order": ["a"], "allow_fallbacks": False}}
    with Wire(lambda sent: "x") as wire:
        ask_directly(settings(wire, explainer=route(wire, model=model, body=body)), question())
        assert wire.requests[0]["provider"] == body["provider"]
        assert (wire.headers[0]["x-title"], wire.headers[0]["x-team"]) == ("lake", HIDDEN)


def test_what_is_sent_besides_is_part_of_the_models_name(route):
    with Wire(lambda body: "x") as wire:
        plain, other = (
            settings(wire, explainer=route(wire, body=body))
            for body in ({}, {"provider": {"order": ["a"]}})
        )
        names = [LiteLLMChat(config).model("judge") for config in (plain, other)]
    assert names[0] == "hosted_vllm/tiny"
    assert names[1].startswith("hosted_vllm/tiny+")


def test_secrets_are_in_no_file_no_log_and_no_text(route, lake, caplog):
    caplog.set_level(logging.DEBUG)
    said = f"key {KEY}, team {HIDDEN}"
    answers = [error(401, said), error(500, said), error(429, said), Answer(text="fine")]
    with Wire(lambda body: answers.pop(0)) as wire:
        config = settings(wire, explainer=route(wire), attempts=1, circuit_failures=1, outage_s=0)
        questions = [question(str(i)) for i in range(4)]
        shown = []
        for asked in questions:
            replies, stats = ask_stored(lake, config, asked)
            shown += [str(replies), str(stats)]
        assert wire.n_requests == 4
        chat = LiteLLMChat(config)
    shown += [repr(chat), repr(chat._targets), repr(config)]
    shown += [str(lake.rows("replies")), *(record.getMessage() for record in caplog.records)]
    files = [path.read_bytes() for path in Path(lake.root).rglob("*") if path.is_file()]
    assert len(files) > 3
    for secret in (KEY, HIDDEN):
        assert secret not in "\n".join(shown)
        assert not any(secret.encode() in content for content in files)


def test_password_of_an_address_is_not_shown(caplog):
    with Wire(lambda body: error(401, "no entry for user:hunter22")) as wire:
        address = wire.url.replace("//", "//user:hunter22@")
        config = settings(wire, explainer=wire.route(api_base=address), attempts=1)
        wire.key = None
        (reply,) = ask_directly(config, question())
        wire.problems.clear()
    assert "hunter22" not in str(reply) + reply.reason


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "Api-Key", "X-Auth-Token"])
def test_header_that_is_a_secret_is_refused_in_a_file(name):
    deployment = {"model": "a/b", "headers": {name: "Bearer sk-1"}}
    with pytest.raises(ConfigError, match=rf"headers.*{name} is a secret.*headers_env") as caught:
        load(values={"chat.explainer": {"deployments": [deployment]}})
    assert "sk-1" not in str(caught.value)


def test_missing_header_variable_is_named(route, monkeypatch):
    with Wire(lambda body: "x") as wire:
        config = settings(wire, explainer=route(wire))
        monkeypatch.delenv("TEAM")
        with pytest.raises(ConfigError, match=r"deployments\[0\]\.headers_env\.X-Team: .*TEAM"):
            LiteLLMChat(config)


def test_deployments_with_headers_read_back_from_what_config_prints():
    import tomllib

    from lakeinterp.commands.config import lines
    from lakeinterp.config import validate

    deployment = {
        "model": "a/b",
        "headers": {"X-Title": "a b"},
        "headers_env": {"X-Team": "TEAM"},
        "body": {"provider": {"order": ["x"], "n": 1, "on": True}},
    }
    made = load(values={"chat.explainer": {"deployments": [deployment]}})
    assert validate(tomllib.loads("\n".join(lines(made)))) == made
    assert len({*made.chat.explainer.deployments, *made.chat.explainer.deployments}) == 1
    assert ChatConfig().explainer.deployments == ()


@pytest.mark.parametrize("model", ["hosted_vllm/tiny", "openai/tiny", "openrouter/v/tiny"])
@pytest.mark.parametrize("status", [301, 308])
def test_redirect_is_not_followed_as_it_would_take_prompt_and_secrets_along(route, model, status):
    with Wire(lambda body: "x") as other:
        elsewhere = {"Location": f"{other.url}/chat/completions"}
        with Wire(lambda body: Answer(status=status, headers=elsewhere, body=b"")) as wire:
            (reply,) = ask_directly(settings(wire, explainer=route(wire, model=model)), question())
            assert wire.n_requests == 1
        assert other.n_requests == 0
    assert (reply.status, reply.attempts) == ("http_error", 1)
    assert f"{status}: the address sends on to another one" in reply.reason
    assert "api_base of chat.explainer.deployments[0]" in reply.reason


def test_doctor_takes_the_key_to_no_other_address(monkeypatch):
    from lakeinterp.commands.doctor import _reach
    from lakeinterp.config import Deployment

    seen = []

    class Sends(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers["authorization"]))
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    monkeypatch.setenv("CANARY", "sk-canary")
    with HTTPServer(("127.0.0.1", 0), Sends) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/v1"
        deployment = Deployment(model="openai/m", api_base=address, api_key_env="CANARY")
        assert _reach(deployment) == (False, "answers with status 302")
        server.shutdown()
        thread.join()
    assert seen == [("/v1/models", "Bearer sk-canary")]
