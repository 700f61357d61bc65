"""A loopback server that speaks /v1/files and /v1/batches; a test says how each batch ends."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lakeinterp.config import Deployment, RouteConfig

Line = dict[str, Any]


def answer(line: Line, text: str = "[1, 0]", **choice: Any) -> Line:
    """Return an output line that answers an input line."""
    message = {"role": "assistant", "content": text}
    found = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    body = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m-served",
        "choices": [found],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }  # fmt: skip
    return _line(line, {"status_code": 200, "request_id": "r", "body": body}, None)


def refused(line: Line, status: int, message: str) -> Line:
    """Return an error line of a request that was refused."""
    error = {"error": {"message": message, "code": None}}
    return _line(line, {"status_code": status, "request_id": "r", "body": error}, None)


def expired(line: Line) -> Line:
    """Return an error line of a request that the batch did not get to."""
    said = {"code": "batch_expired", "message": "This request could not be executed in time."}
    return _line(line, None, said)


def _line(line: Line, response: object, error: object) -> Line:
    return {"id": "l", "custom_id": line["custom_id"], "response": response, "error": error}


@dataclass
class Ending:
    """How a batch stands when it is looked at."""

    status: str = "completed"
    output: list[Line] = field(default_factory=list)
    errors: list[Line] = field(default_factory=list)
    said: str | None = None


class BatchWire:
    """The server; a context manager.

    Args:
        ending: From a batch's input lines to how it stands, asked at every look.
    """

    def __init__(self, ending: Callable[[list[Line]], Ending]) -> None:
        self.ending = ending
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.fail_after_create = False
        """Make the next batch, and cut the connection instead of saying so."""
        self.moved: tuple[str, str] | None = None
        """Beginning of what is asked, as `GET /v1/files`, and the address it is sent on to."""
        self.n_requests = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.wire = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def route(self, **values: Any) -> RouteConfig:
        """Return a route with this server as its deployment."""
        address = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        prices = {"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-2}
        deployment = Deployment(**{"model": "openai/m", "api_base": address, **prices, **values})
        return RouteConfig(deployments=(deployment,))

    def lines(self, batch: str) -> list[Line]:
        """Return the requests of a batch."""
        content = self.files[self.batches[batch]["input_file_id"]]
        return [json.loads(line) for line in content.splitlines()]

    def __enter__(self) -> BatchWire:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def look(self, batch: str) -> dict[str, Any]:
        """Return a batch as the API shows it."""
        lines = self.lines(batch)
        end = self.ending(lines)
        shown = {**self.batches[batch], "status": end.status}
        for name, content in (("output", end.output), ("error", end.errors)):
            if content and end.status != "in_progress":
                self.files[f"{name}-{batch}"] = b"".join(
                    json.dumps(line).encode() + b"\n" for line in content
                )
                shown[f"{name}_file_id"] = f"{name}-{batch}"
        counts = {"total": len(lines), "completed": len(end.output), "failed": len(end.errors)}
        errors = {"object": "list", "data": [{"code": "x", "message": end.said}]}
        return shown | {"request_counts": counts, "errors": errors if end.said else None}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        wire: BatchWire = self.server.wire  # type: ignore[attr-defined]
        raw = self.rfile.read(int(self.headers["content-length"]))
        if self._is_moved(wire):
            return
        if self.path == "/v1/files":
            name = f"file-{len(wire.files)}"
            wire.files[name] = _uploaded(raw)
            kept = {"id": name, "object": "file", "bytes": 1, "created_at": 1}
            self._send(kept | {"filename": "f", "purpose": "batch", "status": "processed"})
            return
        asked = json.loads(raw)
        name = f"batch-{len(wire.batches)}"
        wire.batches[name] = {
            "id": name, "object": "batch", "status": "validating", "created_at": 1_000_000,
            "completed_at": 1_000_060, **asked,
        }  # fmt: skip
        if wire.fail_after_create:
            wire.fail_after_create = False
            self.close_connection = True
            return
        self._send(wire.batches[name])

    def do_GET(self) -> None:
        wire: BatchWire = self.server.wire  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        if self._is_moved(wire):
            return
        if path == "/v1/batches":
            found = [wire.look(name) for name in reversed(wire.batches)]
            self._send({"object": "list", "data": found, "has_more": False})
        elif path.startswith("/v1/batches/"):
            self._send(wire.look(path.rpartition("/")[2]))
        else:
            self._send_bytes(wire.files[path.split("/")[3]])

    def _is_moved(self, wire: BatchWire) -> bool:
        wire.n_requests += 1
        if wire.moved is None or not f"{self.command} {self.path}".startswith(wire.moved[0]):
            return False
        self.send_response(307)
        self.send_header("Location", wire.moved[1] + self.path.removeprefix("/v1"))
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        return True

    def _send(self, value: object) -> None:
        self._send_bytes(json.dumps(value).encode())

    def _send_bytes(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _uploaded(raw: bytes) -> bytes:
    boundary = raw.split(b"\r\n", 1)[0]
    parts = raw.split(boundary)
    part = next(p for p in parts if re.search(rb'name="file"', p))
    return part.split(b"\r\n\r\n", 1)[1].rstrip(b"\r\n")
