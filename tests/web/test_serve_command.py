"""`lakeinterp serve` as a person starts it, and what it says when it cannot."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from lakeinterp import cli


def said(capsys, *arguments):
    code = cli.run(["serve", *arguments])
    return code, capsys.readouterr().err


def test_a_taken_port_is_one_clear_line(lake, capsys):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
        code, text = said(capsys, "--lake", lake.root, "--port", port)
    assert code == 2
    assert f"--port {port}: cannot listen at 127.0.0.1 (Address already in use)" in text
    assert "0 takes a free one" in text


def test_a_missing_lake_is_one_clear_line(tmp_path, capsys):
    code, text = said(capsys, "--lake", str(tmp_path / "none"), "--port", "0")
    assert (code, text.count("\n")) == (2, 1)
    assert "unknown lake" in text


def test_an_address_of_another_machine_is_one_clear_line(lake, capsys):
    code, text = said(capsys, "--lake", lake.root, "--host", "192.0.2.1", "--port", "0")
    assert code == 2
    assert "cannot listen at 192.0.2.1" in text


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_says_how_to_install_it(lake, capsys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    code, text = said(capsys, "--lake", lake.root, "--port", "0")
    assert code == 2
    assert f"serve needs {missing}, which is not installed: pip install 'lakeinterp[web]'" in text


def test_it_serves_until_it_is_interrupted_and_leaves_nothing_behind(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-m", "lakeinterp", "serve", "--lake", lake.root, "--port", "0"]
    server = subprocess.Popen(
        [*command, "--token"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert "is served, read-only, at" in server.stdout.readline()
        address = server.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=\S{32}", address)
        with httpx.Client(timeout=60) as client:
            assert client.get(address.partition("?")[0]).status_code == 401
            assert client.get(address, follow_redirects=True).status_code == 200
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    finally:
        server.kill()
    assert errors == ""
    assert server.returncode == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("lakeinterp-")] == []


def test_the_server_starts_without_torch_litellm_or_prefect():
    heavy = "{'torch', 'transformers', 'litellm', 'prefect', 'datasets', 'pandas'}"
    code = (
        f"import sys, lakeinterp.web, lakeinterp.commands.serve; print(*{heavy} & {{*sys.modules}})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
