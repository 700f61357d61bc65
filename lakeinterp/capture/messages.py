"""What a capture and its workers say to each other: one JSON object a line, through pipes.

To a worker, in this order: its settings; `plan` for the one that writes the capture down, `go`
for the others; `shard` as often as there is one; `end`. When the pipe closes, whoever started the
worker is gone, and the worker ends too.
"""

from __future__ import annotations

import json
from typing import IO, Any

from lakeinterp import errors
from lakeinterp.errors import LakeError, LakeinterpError

Message = dict[str, Any]


def write(pipe: IO[bytes], **message: object) -> None:
    """Send one message."""
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


def read(line: bytes) -> Message:
    """Return the message of a line."""
    message: Message = json.loads(line)
    return message


def failure(exc: BaseException) -> Message:
    """Return how a worker tells of what stopped it."""
    return {"said": "failed", "kind": type(exc).__name__, "text": str(exc)}


def raised(message: Message, worker: str) -> LakeinterpError:
    """Return what stopped a worker as the exception that it was there.

    Args:
        message: As `failure` returned it.
        worker: Its name, for what lakeinterp did not raise itself.
    """
    kind = getattr(errors, message["kind"], None)
    if isinstance(kind, type) and issubclass(kind, LakeinterpError):
        error = kind.__new__(kind, message["text"])
        error.args = (message["text"],)
        return error
    return LakeError(
        f"worker {worker}: {message['kind']}: {message['text']}; what is committed stays, and the "
        "same command goes on from there"
    )
