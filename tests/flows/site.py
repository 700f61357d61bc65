"""A Prefect site of a test's own: a server, a worker and the deployments of `prefect.yaml`.

Processes are started in sessions of their own and ended by their ids.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).parent / "prefect")
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""Where the server keeps who holds a deployment's place, so that it knows after a restart."""
_BUSY = 503
"""What the server says when its database is locked."""
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Site:
    """A folder with settings, a server with a database, and a worker.

    Args:
        folder: Everything is in it.
        settings: Flat settings, as `config.load(values=...)` takes them.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.port = folder, _free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_LOGGING_COLORS": "false",
            "NO_COLOR": "1",
            "OMP_NUM_THREADS": "1",
        }
        (folder / "lakeinterp.toml").write_text(toml(settings), encoding="utf-8")
        self.server: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Site:
        self.start_server()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.worker, self.server):
            end(process)

    def start_server(self) -> None:
        """Start the server and wait until it answers."""
        command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.server = self.start("server", command)
        until(self._is_up, 300, "the server does not answer")

    def start_worker(self) -> None:
        """Start a worker of the pool."""
        self.worker = self.start("worker", [PREFECT, "worker", "start", "--pool", "lakeinterp"])

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a process in the folder; what it says is appended to `<name>.log`."""
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *command: str) -> str:
        """Run a command of Prefect to its end and return what it says."""
        done = subprocess.run(
            [PREFECT, "--no-prompt", *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def deploy(self, edit: Callable[[str], str] = str) -> str:
        """Make the work pool and deploy every flow, as the page on deployments says."""
        text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
        (self.folder / "prefect.yaml").write_text(edit(text), encoding="utf-8")
        self.run("work-pool", "create", "lakeinterp", "--type", "process", "--overwrite")
        return self.run("deploy", "--all")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the server's API, again if it is too busy to answer."""
        last = time.monotonic() + 120
        while True:
            reply = httpx.request(method, self.api + path, json=body, timeout=60)
            if reply.status_code != _BUSY or time.monotonic() > last:
                break
            time.sleep(1)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def begin(self, deployment: str, **parameters: Any) -> str:
        """Ask for a run of a deployment, as `lakeinterp-score/on-demand`; return its id."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        parameters = {**found["parameters"], **parameters}
        given = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        path = f"/deployments/{found['id']}/create_flow_run"
        return str(self.ask("POST", path, given)["id"])

    def cancel(self, run: str) -> None:
        """Ask for a run to be cancelled, as `prefect flow-run cancel` and the button do."""
        self.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})

    def state(self, run: str) -> dict[str, Any]:
        """Return the state of a run."""
        return dict(self.ask("GET", f"/flow_runs/{run}")["state"])

    def ended(self, run: str, seconds: float = 300) -> dict[str, Any]:
        """Wait until a run is in a final state and return it."""
        until(lambda: self.state(run)["type"] in FINAL, seconds, f"{run} does not end")
        return self.state(run)

    def rows(self, kind: str, **filters: Any) -> list[dict[str, Any]]:
        """Return all `flow_runs`, `task_runs`, `artifacts` or `logs`."""
        return list(self.ask("POST", f"/{kind}/filter", {"limit": 200, **filters}))

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes that a process began, and those that they did."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[bytes] | None, *, with_family: bool = True) -> None:
    """End a process at once, and what it began."""
    if process is None:
        return
    everyone = family(process) if with_family else []
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for one in everyone:
        try:
            one.kill()
            one.wait(10)
        except psutil.NoSuchProcess:
            continue


def until(fact: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait for something to be so."""
    last = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > last:
            raise TimeoutError(f"{otherwise} within {seconds:g} s")
        time.sleep(0.2)


def toml(settings: dict[str, Any]) -> str:
    """Return flat settings as TOML with dotted keys."""
    return "".join(_line(key, value) for key, value in settings.items())


def _line(key: str, value: Any) -> str:
    return f"{key} = {_value(value)}\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def alive(pids: list[int]) -> Iterator[int]:
    """Yield the processes that are still there, not counting those waiting to be reaped."""
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                yield pid
        except psutil.NoSuchProcess:
            continue
