"""A run that starts its own server: once, for as long as it asks, and never longer."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lakeinterp import pipeline
from lakeinterp.chat.backend import usual_price
from lakeinterp.chat.vllm import VllmServer, named
from lakeinterp.chat.waking import sleeping, wake
from lakeinterp.config import ChatConfig, Deployment, RouteConfig, VllmConfig
from lakeinterp.errors import ConfigError, MissingExtra
from tests.chat.helpers import whole

ROOT = Path(__file__).parents[2]
# In vLLM's place: speaks the chat protocol and follows the rules of the planted latents.
PROGRAM = f"""#!{sys.executable} -SE
import json, os, sys
sys.path.insert(0, {str(ROOT)!r})
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tests.rule_driven import answer
here = Path(__file__).parent
with open(here / "starts", "a") as file:
    print(os.getpid(), file=file)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say({{}})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        open(here / "asked", "a").write(body["model"] + "\\n")
        if os.environ.get("SILENT"):
            import time
            time.sleep(600)
        message = {{"role": "assistant", "content": answer(body)}}
        choices = [{{"index": 0, "message": message, "finish_reason": "stop"}}]
        usage = {{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}
        self.say({{"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                  "choices": choices, "usage": usage}})
    def say(self, what):
        content = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_):
        pass
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def install(folder):
    """Put the program into a folder and return its path."""
    folder.mkdir()
    made = folder / "vllm"
    made.write_text(PROGRAM)
    made.chmod(0o755)
    return made


@pytest.fixture
def program(tmp_path, monkeypatch):
    made = install(tmp_path / "bin")
    monkeypatch.setattr("lakeinterp.chat.vllm._GRACE_S", 2)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield made
    for pid in lines(made, "starts"):
        if is_there(int(pid)):
            os.kill(int(pid), signal.SIGKILL)
            pytest.fail(f"process {pid} was left behind")


def lines(program, name):
    file = program.with_name(name)
    return file.read_text().split() if file.exists() else []


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def starting(program, **values):
    return ChatConfig(vllm=VllmConfig(model="org/m", command=(str(program),)), **values)


def test_one_server_answers_explaining_and_scoring_and_is_gone_after(program, sampled):
    config = whole(sampled.root, starting(program))
    pipeline.check_chat(config)
    assert lines(program, "starts") == []
    with pipeline.served(config) as asking:
        assert asking.chat.vllm.model is None
        assert lines(program, "starts") == []
        assert pipeline.explain(asking, run="r").counts == {"ok": 2}
        scored = pipeline.score(asking, run="r")
        assert set(scored.counts) == {"ok"}
        (pid,) = lines(program, "starts")
        assert is_there(int(pid))
    assert not is_there(int(pid))
    assert set(lines(program, "asked")) == {"org/m"}
    n_asked = len(lines(program, "asked"))
    for step in (pipeline.explain, pipeline.score):  # nothing to ask: no server
        assert step(config, run="again").counts == {}
    assert len(lines(program, "starts")) == 1
    assert len(lines(program, "asked")) == n_asked


def test_worker_processes_share_the_one_server(program, sampled):
    config = whole(sampled.root, starting(program, workers=2))
    assert pipeline.explain(config, run="r").counts == {"ok": 2}
    assert len(lines(program, "starts")) == 1


def test_server_ends_with_a_run_that_fails(program, sampled):
    config = whole(sampled.root, starting(program))

    def fails(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pipeline.explain(config, run="r", progress=fails)
    (pid,) = lines(program, "starts")
    assert not is_there(int(pid))


def test_server_that_does_not_start_ends_the_run_with_its_last_words_once(program, sampled):
    program.write_text(f"#!/bin/sh\necho start >> {program.with_name('starts')}\n"
                       "echo 'ValueError: no such model' >&2\nexit 3\n")  # fmt: skip
    config = whole(sampled.root, starting(program))
    with pytest.raises(ConfigError, match="exit code 3 before it answered: ValueError: no such"):
        pipeline.explain(config, run="r")
    assert program.with_name("starts").read_text() == "start\n"
    program.with_name("starts").unlink()


def test_server_is_ended_with_a_run_that_is_cancelled_while_it_starts(program):
    program.write_text(f"#!/bin/sh\necho $$ >> {program.with_name('starts')}\nexec sleep 600\n")
    server = VllmServer("org/m", starting(program).vllm)

    async def whole():
        with sleeping(server):
            asking = asyncio.create_task(wake([None, "http://elsewhere/v1", server.url]))
            while not lines(program, "starts"):
                await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(whole())  # ends only when the thread that waits for the server does
    (pid,) = lines(program, "starts")
    assert not is_there(int(pid))


def test_ctrl_c_ends_the_run_and_its_server(program, sampled, tmp_path):
    arguments = ["explain", "--lake", sampled.root, "--explainer", "default", "--latents", "0,1"]
    settings = ["--set", "chat.vllm.model=org/m", "--set", f'chat.vllm.command=["{program}"]']
    settings += ["--set", "chat.timeout_s=2", "--set", "chat.attempts=1"]
    with subprocess.Popen(
        [sys.executable, "-m", "lakeinterp", *arguments, *settings],
        env={**os.environ, "SILENT": "1", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not lines(program, "asked"):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "starting vLLM with org/m" in said
    assert "Traceback" not in said
    (pid,) = lines(program, "starts")
    assert not is_there(int(pid))


def test_nothing_is_started_where_nobody_is_asked(program, sampled):
    chat = starting(program)
    pipeline.explain(whole(sampled.root, chat), run="r")
    for mode in ("offline", "reread"):
        config = whole(sampled.root, chat.model_copy(update={mode: True}))
        pipeline.check_chat(config)
        assert pipeline.explain(config, run="again").counts == {}
    pattern = whole(sampled.root, chat, **{"explain.explainer": "pattern"})
    pipeline.explain(pattern, run="r")
    assert len(lines(program, "starts")) == 1


def test_name_key_and_price_are_known_before_the_server_runs(program):
    chat = starting(program)
    assert named(chat).explainer.deployments[0].name == "hosted_vllm/org/m"
    assert usual_price(chat, "judge").state == "free"
    other = RouteConfig(deployments=(Deployment(model="openai/x"),))
    mixed = named(chat.model_copy(update={"explainer": other}))
    assert mixed.judge.deployments[0].name == "hosted_vllm/org/m"
    assert named(ChatConfig()) == ChatConfig()


def test_what_keeps_a_server_from_starting_is_told_before_any_work(program, monkeypatch, tmp_path):
    other = RouteConfig(deployments=(Deployment(model="openai/x", api_base="http://[::1]/v1"),))
    chat = starting(program)
    full = chat.model_copy(update={"explainer": other, "judge": other})
    with pytest.raises(ConfigError, match=r"none is left for chat\.vllm to serve"):
        pipeline.check_chat(whole(tmp_path, full))
    missing = chat.model_copy(update={"vllm": VllmConfig(model="org/m")})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match=r"\[vllm\]'; better in an environment of its own"):
        pipeline.check_chat(whole(tmp_path, missing))
