"""A provider on loopback in a process of its own, light enough to measure clients against.

The address says how it answers: `http://127.0.0.1:PORT/MILLISECONDS/PERMILLE/v1` answers after so
many milliseconds, and of a thousand requests answers so many with 429, 500 or not at all, in turn.
It counts how often each user message was answered; `GET /counts` returns that.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

HANG_S = 600.0
COUNTS: Counter[str] = Counter()


class Provider(asyncio.Protocol):
    """One connection, kept alive."""

    n_requests = 0
    n_faults = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        """Take bytes, and answer each request that is whole."""
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            lowered = head.lower()
            n = int(lowered.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(rest) < n:
                return
            self.received = rest[n:]
            self.answer(head.split(b" ", 2)[1].decode(), rest[:n])

    def answer(self, path: str, body: bytes) -> None:
        """Answer one request, later."""
        if path == "/counts":
            self.send(200, json.dumps(COUNTS).encode())
            return
        _, milliseconds, permille, *_ = path.split("/")
        Provider.n_requests += 1
        if int(permille) and Provider.n_requests % (1000 // int(permille)) == 0:
            Provider.n_faults += 1
            delay_s, status = ((0.0, 429), (0.0, 500), (HANG_S, 500))[Provider.n_faults % 3]
            content = b'{"error": {"message": "no", "code": null}}'
        else:
            asked = json.loads(body)["messages"][-1]["content"]
            COUNTS[asked] += 1
            delay_s, status, content = int(milliseconds) / 1000, 200, REPLY
        asyncio.get_running_loop().call_later(delay_s, self.send, status, content)

    def send(self, status: int, content: bytes) -> None:
        """Send a response, if somebody still listens."""
        if not self.transport.is_closing():
            head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: "
            self.transport.write(head.encode() + f"{len(content)}\r\n\r\n".encode() + content)


REPLY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": '{"labels": [1, 0, 0, 1, 0]}'},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1200, "completion_tokens": 20, "total_tokens": 1220},
    }
).encode()


async def serve() -> None:
    """Print the port and answer for ever."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def provider() -> Iterator[str]:
    """Start it; yield the address up to the port."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def counts(url: str) -> dict[str, int]:
    """Return how often each user message was answered."""
    with urlopen(f"{url}/counts", timeout=60) as answer:
        found: dict[str, int] = json.load(answer)
    return found


if __name__ == "__main__":
    asyncio.run(serve())
