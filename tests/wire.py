"""A real HTTP server on loopback that speaks the OpenAI chat protocol, for the tests of every room.

Its answers come from a function of the request. Every request is checked; leaving the context
fails the test if one was malformed:

    with Wire(lambda body: "yes") as wire:
        config = ChatConfig(explainer=wire.route(), attempts=2, retry_wait_s=0)
        ...
    assert wire.n_requests == 1
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lakeinterp.config import Deployment, RouteConfig

KEY_ENV, KEY = "LAKEINTERP_TEST_KEY", "sk-test-5f1c9a"
"""The variable that a wire's deployments name, and the key a wire expects."""

_KNOWN = {
    "model": str,
    "messages": list,
    "max_tokens": int,
    "temperature": (int, float),
    "seed": int,
    "response_format": dict,
    "logprobs": bool,
    "top_logprobs": int,
    "prompt_logprobs": int,
    "stream": bool,
    "usage": dict,
    "provider": dict,
}
_NEEDED = {"model", "messages", "max_tokens", "temperature"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server sends back; the default is a usual reply that says nothing."""

    text: str | None = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    """Waited before anything is sent; ends early when the server stops."""
    finish_reason: str | None = "stop"
    refusal: str | None = None
    model: str | None = None
    """Model named in the reply; None repeats the request's."""
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    )
    logprobs: list[tuple[str, float, list[tuple[str, float]]]] | None = None
    """Token, log-probability and alternatives, for each token of the reply."""
    body: bytes | None = None
    """Sent as it is, in place of the reply made from the fields above."""
    cut: bool = False
    """Drop the connection in the middle of the body."""
    drip_s: float = 0.0
    """Waited after every byte of the body; ends early when the server stops."""


def error(status: int, message: str = "no", **headers: str) -> Answer:
    """Return an OpenAI-style error; `Retry_After="2"` becomes the header Retry-After."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": status}}).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=body, headers=sent)


class Wire:
    """The server; a context manager that starts and stops it.

    Args:
        answer: Body of a request to a text or an `Answer`; called in the server's threads.
        key: Key that requests must carry; None accepts any or none.
    """

    def __init__(
        self, answer: Callable[[dict[str, Any]], str | Answer], *, key: str | None = KEY
    ) -> None:
        self.answer, self.key = answer, key
        self.requests: list[dict[str, Any]] = []
        """Bodies in the order they came."""
        self.headers: list[dict[str, str]] = []
        self.problems: list[str] = []
        self.n_open = self.most_open = 0
        """Requests being answered, now and at most."""
        self._lock, self.stopping = threading.Lock(), threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.wire = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._environment = os.environ.get(KEY_ENV)

    @property
    def n_requests(self) -> int:
        """Requests received so far."""
        return len(self.requests)

    @property
    def url(self) -> str:
        """Base address for `Deployment.api_base`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def deployment(self, model: str = "hosted_vllm/tiny", **values: Any) -> Deployment:
        """Return a deployment that speaks to this server."""
        values = {"api_base": self.url, "api_key_env": KEY_ENV, **values}
        return Deployment(model=model, **values)

    def route(self, model: str = "hosted_vllm/tiny", **values: Any) -> RouteConfig:
        """Return a route with one deployment."""
        return RouteConfig(deployments=(self.deployment(model, **values),))

    def __enter__(self) -> Wire:
        os.environ[KEY_ENV] = self.key or KEY
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self._environment is None:
            os.environ.pop(KEY_ENV, None)
        else:
            os.environ[KEY_ENV] = self._environment
        if kind is None:
            assert not self.problems, self.problems

    def respond(
        self, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[Answer, dict[str, Any]]:
        """Check one request, note it, and return the answer and the request's body."""
        body, problems = _checked(path, headers, raw, self.key)
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            self.problems += problems
            self.n_open += 1
            self.most_open = max(self.most_open, self.n_open)
        try:
            answer = self.answer(body)
            answer = Answer(text=answer) if isinstance(answer, str) else answer
            if answer.delay_s:
                self.stopping.wait(answer.delay_s)
        except Exception as exc:  # noqa: BLE001 - shown by the test that owns the server
            self.problems.append(f"the answer function failed: {exc!r}")
            answer = error(500, "the test's answer function failed")
        finally:
            with self._lock:
                self.n_open -= 1
        return answer, body


class _Server(ThreadingHTTPServer):
    wire: Wire
    request_queue_size = 512
    block_on_close = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients of these tests hang up on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer, body = self.server.wire.respond(self.path, headers, raw)
        content = answer.body if answer.body is not None else _completion(answer, body)
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.drip_s:
            self._drip(content, answer.drip_s)
        else:
            self.wfile.write(content[: len(content) // 2] if answer.cut else content)
        if answer.cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _drip(self, content: bytes, drip_s: float) -> None:
        for byte in content:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.wire.stopping.wait(drip_s):
                return

    def do_GET(self) -> None:
        self.server.wire.problems.append(f"GET {self.path}")
        self.send_error(405)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _completion(answer: Answer, body: dict[str, Any]) -> bytes:
    message = {"role": "assistant", "content": answer.text}
    if answer.refusal is not None:
        message["refusal"] = answer.refusal
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    if answer.logprobs is not None:
        choice["logprobs"] = {
            "content": [
                {"token": t, "logprob": p, "bytes": None, "top_logprobs": _alternatives(top)}
                for t, p, top in answer.logprobs
            ]
        }
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": answer.model or body.get("model"),
        "choices": [choice],
    }
    return json.dumps(reply | ({"usage": answer.usage} if answer.usage else {})).encode()


def _alternatives(top: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"token": t, "logprob": p, "bytes": None} for t, p in top]


def _checked(
    path: str, headers: dict[str, str], raw: bytes, key: str | None
) -> tuple[dict[str, Any], list[str]]:
    problems = []
    if path != "/v1/chat/completions":
        problems.append(f"path {path}")
    if "application/json" not in headers.get("content-type", ""):
        problems.append(f"content type {headers.get('content-type')}")
    if key is not None and headers.get("authorization") != f"Bearer {key}":
        problems.append(f"authorization {headers.get('authorization')}")
    try:
        body = json.loads(raw.decode("utf-8"))
        json.dumps(body, ensure_ascii=False).encode("utf-8")
    except ValueError as exc:
        return {}, [*problems, f"body {raw[:200]!r}: {exc}"]
    return body, problems + _problems_of(body)


def _problems_of(body: dict[str, Any]) -> list[str]:
    problems = [f"lacks {name}" for name in sorted(_NEEDED - body.keys())]
    for name, value in body.items():
        if name not in _KNOWN:
            problems.append(f"unknown field {name}={value!r}")
        elif not isinstance(value, _KNOWN[name]):
            problems.append(f"{name}={value!r} is no {_KNOWN[name]}")
    for message in body.get("messages") or [{}]:
        if set(message) != {"role", "content"} or not isinstance(message["content"], str):
            problems.append(f"message {message!r}")
        elif message["role"] not in ("system", "user", "assistant"):
            problems.append(f"role {message['role']!r}")
    if body.get("max_tokens", 1) < 1:
        problems.append(f"max_tokens {body['max_tokens']}")
    if "top_logprobs" in body and not (body.get("logprobs") and 0 <= body["top_logprobs"] <= 20):
        problems.append(f"top_logprobs {body['top_logprobs']} without logprobs")
    if "response_format" in body:
        problems += _problems_of_format(body["response_format"])
    return problems


def _problems_of_format(wanted: dict[str, Any]) -> list[str]:
    schema = wanted.get("json_schema", {})
    if wanted.get("type") != "json_schema" or not schema.get("name") or "schema" not in schema:
        return [f"response_format {wanted!r}"]
    return []
