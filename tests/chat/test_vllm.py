"""A managed server with a small program in vLLM's place: started, watched, restarted, ended."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lakeinterp import cli
from lakeinterp.chat.vllm import VllmServer, command, serving
from lakeinterp.config import ChatConfig, Deployment, RouteConfig, VllmConfig
from lakeinterp.errors import ConfigError, MissingExtra

# Like vLLM it starts a second process that must not outlive it, and that ignores SIGTERM.
PROGRAM = f"""#!{sys.executable} -SE
import os, signal, sys, time
from pathlib import Path
port = int(sys.argv[sys.argv.index("--port") + 1])
here = Path(__file__).parent
with open(here / "starts", "a") as file:
    print(os.getpid(), file=file)
print("(EngineCore pid=7) INFO 11-23 19:50:06 [utils.py:347] loading", flush=True)
if "--fail" in sys.argv:
    sys.exit("(APIServer pid=1) ValueError: no such model\\nsee above")
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (here / "engine").write_text(str(os.getpid()))
    time.sleep(600)
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def bin_folder(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "vllm"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("lakeinterp.chat.vllm._GRACE_S", 0.3)
    yield folder
    for file in (folder / "starts", folder / "engine"):
        for pid in file.read_text().split() if file.exists() else ():
            if not is_gone(int(pid)):
                os.kill(int(pid), signal.SIGKILL)
                pytest.fail(f"process {pid} was left behind")


def starts(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "starts").read_text().split()]


def until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_server_answers_within_the_block_and_all_its_processes_end_with_it(bin_folder, tmp_path):
    log = tmp_path / "logs" / "vllm.log"
    with VllmServer("some/model", VllmConfig(), log=log) as server:
        assert server.is_healthy()
        assert server.deployment().model == "hosted_vllm/some/model"
        (first,), engine = starts(bin_folder), int((bin_folder / "engine").read_text())
        assert not is_gone(engine)
    assert not server.is_healthy()
    assert is_gone(first)
    assert is_gone(engine)
    assert "loading" in log.read_text()


def test_command_says_what_the_settings_say_and_own_arguments_come_last():
    config = VllmConfig(tensor_parallel=2, max_model_len=4096, arguments=("--seed", "1"))
    found = command("some/model", config, 8000)
    assert found[:3] == ["vllm", "serve", "some/model"]
    assert found[-4:] == ["--max-model-len", "4096", "--seed", "1"]
    pairs = dict(itertools.pairwise(found))
    assert (pairs["--host"], pairs["--port"]) == ("127.0.0.1", "8000")
    assert (pairs["--tensor-parallel-size"], pairs["--served-model-name"]) == ("2", "some/model")
    assert "--enable-prefix-caching" in found
    renamed = command("some/model", VllmConfig(command=("/x/vllm",), name="m"), 1)
    assert (renamed[0], renamed[renamed.index("--served-model-name") + 1]) == ("/x/vllm", "m")


def test_server_that_dies_is_started_again_once_at_the_same_address(bin_folder):
    with VllmServer("m", VllmConfig()) as server:
        os.kill(starts(bin_folder)[0], signal.SIGKILL)
        until(lambda: len(starts(bin_folder)) == 2 and server.is_healthy())
        assert (server.n_restarts, server.problem) == (1, None)
        os.kill(starts(bin_folder)[1], signal.SIGKILL)
        with pytest.raises(
            ConfigError, match=r"serving m ended with exit code 137 after 1 restarts: "
        ):
            server.wait()
    assert len(starts(bin_folder)) == 2


def test_server_that_does_not_start_is_one_line_with_its_last_words(bin_folder, capsys):
    arguments = ["llm", "serve", "m", "--set", 'chat.vllm.arguments=["--fail"]']
    assert cli.run(arguments) == 2
    said = capsys.readouterr().err
    assert "ended with exit code 1 before it answered: ValueError: no such model (log: " in said
    assert said.count("\n") == 1
    assert len(starts(bin_folder)) == 1


def test_server_that_never_answers_is_given_up(bin_folder):
    config = VllmConfig(start_timeout_s=0.3, command=("sleep", "600"))
    with pytest.raises(ConfigError, match=r"^chat\.vllm: serving m ended with exit code 1"):
        VllmServer("m", config).start()
    (bin_folder / "silent").write_text("#!/bin/sh\nexec sleep 600\n")
    (bin_folder / "silent").chmod(0o755)
    config = VllmConfig(start_timeout_s=0.3, command=("silent",))
    with pytest.raises(ConfigError, match=r"^chat\.vllm\.start_timeout_s = 0\.3: m does not"):
        VllmServer("m", config).start()


def test_missing_vllm_is_said_with_the_install_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match=r"pip install 'lakeinterp\[vllm\]'"):
        VllmServer("m", VllmConfig())
    with pytest.raises(ConfigError, match=r"chat\.vllm\.command: there is no program '/x/vllm'"):
        VllmServer("m", VllmConfig(command=("/x/vllm",)))


def test_server_ends_with_a_killed_owner(bin_folder, tmp_path):
    code = (
        "import time; from lakeinterp.chat.vllm import VllmServer\n"
        "from lakeinterp.config import VllmConfig\n"
        "import lakeinterp.chat.vllm as v; v._GRACE_S = 0.3\n"
        "VllmServer('m', VllmConfig()).start(); print('up', flush=True); time.sleep(600)"
    )
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        owner.kill()
    (first,), engine = starts(bin_folder), int((bin_folder / "engine").read_text())
    until(lambda: is_gone(first) and is_gone(engine))


def test_serve_command_runs_until_it_is_told_to_end(bin_folder):
    arguments = [sys.executable, "-m", "lakeinterp", "llm", "serve", "m"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        shown = next(line for line in lines if "hosted_vllm/m" in line)
        assert '[{model = "hosted_vllm/m", api_base = "http://127.0.0.1:' in shown
        process.terminate()
    assert process.returncode == 130
    assert is_gone(starts(bin_folder)[0])


def test_served_model_becomes_the_route_that_has_no_deployment(bin_folder):
    with serving("m", ChatConfig()) as chat:
        (deployment,) = chat.explainer.deployments
        assert deployment.model == "hosted_vllm/m"
        assert chat.judge.deployments == ()
    other = RouteConfig(deployments=(Deployment(model="openai/x"),))
    with serving("m", ChatConfig(explainer=other)) as chat:
        assert chat.judge.deployments[0].model == "hosted_vllm/m"
        assert chat.explainer == other
    with (
        pytest.raises(ConfigError, match=r"none is left for chat\.vllm to serve"),
        serving("m", ChatConfig(explainer=other, judge=other)),
    ):
        pass
