"""A vLLM server on loopback for as long as it is needed: started, watched, restarted, stopped.

    with serving("Qwen/Qwen3-8B", config.chat) as chat:
        pipeline.explain(config.model_copy(update={"chat": chat}), run=run)

With `chat.vllm.model` set, the steps do that themselves; `pipeline.served` around several steps
starts it once for all of them.

vLLM lives in an environment or container of its own (`chat.vllm.command`) and is spoken to over
HTTP; a server that already runs is just a deployment with an `api_base`.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lakeinterp.chat.waking import sleeping
from lakeinterp.config import Deployment, RouteConfig
from lakeinterp.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from lakeinterp.config import ChatConfig, VllmConfig

_log = logging.getLogger(__name__)
_HOST = "127.0.0.1"
_KEEPER = Path(__file__).with_name("keeper.py")
_GRACE_S = 15.0
"""Between asking the server to end and killing it."""
_POLL_S = 0.2
_STRUCTURED = '{"backend": "xgrammar", "disable_any_whitespace": true}'
"""Without the second a weak model may write blanks until `max_tokens`, and the JSON never ends."""
_ELSEWHERE = (
    "better in an environment of its own, whose program chat.vllm.command names: "
    'command = ["/path/to/bin/vllm"]'
)
_SHOWN_LINES = 400
_ERROR = re.compile(r"\b\w*(Error|Exception): |error: ")
_PREFIX = re.compile(r"^(\([^)]*\)\s*)?([A-Z]+ \d\d-\d\d \S+ \[[^]]*\])?")


def command(model: str, config: VllmConfig, port: int) -> list[str]:
    """Return the command line that serves a model.

    Args:
        model: Name on the hub, or folder.
        config: `chat.vllm`; its `arguments` come last and win.
        port: On loopback.
    """
    found = [
        *(*config.command, "serve", model),
        *("--host", _HOST, "--port", str(port)),
        *("--served-model-name", config.name or model),
        *("--tensor-parallel-size", str(config.tensor_parallel)),
        *("--gpu-memory-utilization", f"{config.memory_share:g}"),
        *("--dtype", config.dtype),
        "--enable-prefix-caching",
        *("--structured-outputs-config", _STRUCTURED),
        # A model's own generation_config.json would change top-p and the like behind our back.
        *("--generation-config", "vllm"),
    ]
    if config.max_model_len is not None:
        found += ["--max-model-len", str(config.max_model_len)]
    return found + list(config.arguments)


class VllmServer:
    """One server and its processes; a context manager that starts and stops it.

    A watching thread restarts it, on the same port, `chat.vllm.restarts` times when it ends
    unasked. It ends with this process, however that ends, see `lakeinterp.chat.keeper`.

    Args:
        model: Name on the hub, or folder.
        config: How it is served.
        log: File its output is added to; None takes `vllm-PORT.log` in the user's state folder.

    Raises:
        MissingExtra: vLLM is not installed.
        ConfigError: `chat.vllm.command` names no program.
    """

    def __init__(self, model: str, config: VllmConfig, *, log: Path | None = None) -> None:
        if shutil.which(config.command[0]) is None:
            if config.command == ("vllm",):
                raise MissingExtra("serving a language model", "vllm", "vllm", _ELSEWHERE)
            raise ConfigError(f"chat.vllm.command: there is no program {config.command[0]!r}")
        self.model, self.config = model, config
        self.port = config.port or _free_port()
        self.log = log or _state_folder() / f"vllm-{self.port}.log"
        self.n_restarts = 0
        self.problem: str | None = None
        """Why it is gone for good, one line; None while it runs or may come back."""
        self._keeper: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base address for `api_base`."""
        return f"http://{_HOST}:{self.port}/v1"

    @property
    def name(self) -> str:
        """Name that the model is asked for under."""
        return self.config.name or self.model

    def deployment(self) -> Deployment:
        """Return the deployment that asks this server."""
        return Deployment(model=_deployed(self.name), api_base=self.url)

    def start(self) -> Self:
        """Start it and return once it answers.

        Raises:
            ConfigError: it ended, or did not answer within `chat.vllm.start_timeout_s`; with the
                last thing it said.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        _log.warning("starting vLLM with %s, which may take minutes; log: %s", self.model, self.log)
        self._stopping.clear()
        self._spawn()
        try:
            self._until_it_answers()
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="vllm", daemon=True)
        self._watcher.start()
        return self

    def is_healthy(self) -> bool:
        """Return whether it answers now."""
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End it and everything it started; returns when it is gone. May be called twice."""
        self._stopping.set()
        if (keeper := self._keeper) is not None:
            _end(keeper)
        if (watcher := self._watcher) is not None:
            watcher.join()
            self._watcher = None
        if (keeper := self._keeper) is not None:  # the watcher may have started another meanwhile
            _end(keeper)
            self._keeper = None

    def wait(self) -> None:
        """Return only when it is gone for good.

        Raises:
            ConfigError: it ended more often than it is restarted.
        """
        while not self._stopping.wait(_POLL_S):
            if self.problem is not None:
                raise ConfigError(self.problem)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self) -> None:
        quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        keeper = [sys.executable, "-I", str(_KEEPER), f"{_GRACE_S:g}", str(self.log)]
        self._keeper = subprocess.Popen(
            [*keeper, *command(self.model, self.config, self.port)],
            stdin=subprocess.PIPE,
            env={**quiet, **os.environ},
            start_new_session=True,  # Ctrl-C is for us; we end it in our own time
        )

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + self.config.start_timeout_s
        while not self.is_healthy():
            keeper = self._keeper
            if keeper is None or self._stopping.is_set():
                raise ConfigError(f"chat.vllm: {self.model} was stopped before it answered")
            if (code := keeper.poll()) is not None:
                raise ConfigError(self._ended(code, "before it answered"))
            if time.monotonic() > deadline:
                limit = f"chat.vllm.start_timeout_s = {self.config.start_timeout_s:g}"
                raise ConfigError(f"{limit}: {self.model} does not answer yet (log: {self.log})")
            time.sleep(_POLL_S)

    def _watch(self) -> None:
        while True:
            assert self._keeper is not None
            code = self._keeper.wait()
            if self._stopping.is_set():
                return
            said = self._ended(code, f"after {self.n_restarts} restarts")
            if self.n_restarts >= self.config.restarts:
                self.problem = said
                _log.error("%s", said)
                return
            _log.warning("%s; starting it again", said)
            self.n_restarts += 1
            _close(self._keeper)
            self._spawn()

    def _ended(self, code: int, when: str) -> str:
        return (
            f"chat.vllm: serving {self.model} ended with exit code {code} {when}: "
            f"{_last_words(self.log)} (log: {self.log})"
        )


@contextmanager
def serving(model: str, chat: ChatConfig, *, log: Path | None = None) -> Iterator[ChatConfig]:
    """Serve a model while the block runs; in a Prefect flow, around the tasks that ask it.

    Args:
        model: Name on the hub, or folder.
        chat: Its `vllm` section says how. A route without deployments is given to the server: both
            if neither has any.
        log: As of `VllmServer`.

    Yields:
        The settings with the server as deployment; plain values that tasks and other processes
        can be given.

    Raises:
        MissingExtra: vLLM is not installed.
        ConfigError: the server does not start, or no route is empty.
    """
    _empty_route(chat)
    with VllmServer(model, chat.vllm, log=log) as server:
        yield _with(chat, server.deployment())


@contextmanager
def served(chat: ChatConfig, *, at_first_request: bool = False) -> Iterator[ChatConfig]:
    """Serve `chat.vllm.model` while the block runs; nothing is started where none is needed.

    Args:
        chat: The settings.
        at_first_request: Start it when this process first asks it; else at once, as is needed
            where other processes ask.

    Yields:
        The settings as they are if they name no model; else as of `serving`, with the name taken
        out, so that a block within this one starts nothing. Where nobody is asked (`offline`,
        `reread`), as of `named`.

    Raises:
        MissingExtra: vLLM is not installed.
        ConfigError: the server does not start, or no route is empty.
    """
    if chat.vllm.model is None or chat.offline or chat.reread:
        yield named(chat)
        return
    _empty_route(chat)
    server = VllmServer(chat.vllm.model, chat.vllm)
    with sleeping(server) if at_first_request else server:
        asked = _with(chat, server.deployment())
        yield asked.model_copy(update={"vllm": _without_model(chat.vllm)})


def named(chat: ChatConfig) -> ChatConfig:
    """Return the settings with the model to be served as a deployment where nothing answers yet.

    Names, keys and prices are those of the server to come; settings without one stay as they are.

    Raises:
        ConfigError: no route is empty.
    """
    if chat.vllm.model is None:
        return chat
    model = _deployed(chat.vllm.name or chat.vllm.model)
    deployment = Deployment(model=model, api_base="http://127.0.0.1:0/v1")
    return _with(chat, deployment).model_copy(update={"vllm": _without_model(chat.vllm)})


def check_installed(chat: ChatConfig) -> None:
    """Find out now, rather than after hours of capture, that a server cannot be started.

    Raises:
        MissingExtra: vLLM is not installed.
        ConfigError: `chat.vllm.command` names no program, or no route is empty.
    """
    if chat.vllm.model is not None and not (chat.offline or chat.reread):
        _empty_route(chat)
        VllmServer(chat.vllm.model, chat.vllm)


def _with(chat: ChatConfig, deployment: Deployment) -> ChatConfig:
    route = RouteConfig(deployments=(deployment,))
    return chat.model_copy(update={_empty_route(chat): route})


def _empty_route(chat: ChatConfig) -> str:
    if chat.explainer.deployments and chat.judge.deployments:
        raise ConfigError(
            "chat.explainer and chat.judge both have deployments: none is left for chat.vllm to "
            "serve"
        )
    # An empty judge route asks the explainer's: it stays empty unless that is another's.
    return "judge" if chat.explainer.deployments else "explainer"


def _without_model(config: VllmConfig) -> VllmConfig:
    return config.model_copy(update={"model": None})


def _deployed(name: str) -> str:
    return f"hosted_vllm/{name}"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((_HOST, 0))
        return int(found.getsockname()[1])


def _state_folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "lakeinterp"


def _end(keeper: subprocess.Popen[bytes]) -> None:
    _close(keeper)
    try:
        keeper.wait(_GRACE_S + 10)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()


def _close(keeper: subprocess.Popen[bytes]) -> None:
    if keeper.stdin is not None:
        keeper.stdin.close()


def _last_words(log: Path) -> str:
    """Return the last line of a log that names an error of its own, else the last line."""
    with log.open(encoding="utf-8", errors="replace") as file:
        lines = [_bare(line) for line in deque(file, _SHOWN_LINES) if line.strip()]
    if not lines:
        return "it said nothing"
    named = [i for i, line in enumerate(lines) if _ERROR.search(line)]
    causes = [i for i in named if "root cause above" not in lines[i]] or named
    said = lines[causes[-1]] if causes else lines[-1]
    if "validation error" in said:  # pydantic says what is wrong below
        said = ": ".join(lines[causes[-1] : causes[-1] + 3])
    return said if len(said) <= 300 else said[:299] + "…"


def _bare(line: str) -> str:
    """Return a line of the log without process and time."""
    return _PREFIX.sub("", line.strip()).strip()
