"""Log lines for people or for machines, each with the id of the run that wrote it.

The id is also in the rows of explanations and scores, in every commit to the lake and in every
span, so that any of them leads to the others. Worker processes have the id of the one that began
them: it is handed on in the environment.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from lakeinterp.terms import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_RUN = "LAKEINTERP_RUN"
_JSON = "LAKEINTERP_LOG_JSON"
_OURS = "lakeinterp"
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def new_id() -> str:
    """Return an id for one run: its time and something random."""
    return f"{now():%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"


def run_id() -> str:
    """Return the id of the run that is on, the empty text outside of one."""
    return os.environ.get(_RUN, "")


@contextmanager
def run(own: str | None = None) -> Iterator[str]:
    """Give a block's log lines, commits and worker processes the id of one run.

    Args:
        own: The id; None keeps the one there is, or makes one.

    Yields:
        The id.
    """
    before = os.environ.get(_RUN)
    os.environ[_RUN] = own or before or new_id()
    try:
        yield os.environ[_RUN]
    finally:
        if before is None:
            os.environ.pop(_RUN, None)
        else:
            os.environ[_RUN] = before


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, run, and what `extra` adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "run": run_id(),
        }
        line |= {k: v for k, v in record.__dict__.items() if k not in _OWN}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def is_json() -> bool:
    """Whether log lines are JSON, as `--log-json` wants them."""
    return bool(os.environ.get(_JSON))


@contextmanager
def as_json() -> Iterator[None]:
    """Write the log of a block, and of processes it begins, to standard error as JSON lines."""
    os.environ[_JSON] = "1"
    handler = _handler()
    logger, level = logging.getLogger(_OURS), logging.getLogger(_OURS).level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        os.environ.pop(_JSON, None)


def inherit() -> None:
    """Log as the process that began this one does."""
    if is_json():
        logging.getLogger(_OURS).addHandler(_handler())
        logging.getLogger(_OURS).setLevel(logging.INFO)


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    return handler


class Lines:
    """A text file whose lines become log lines; progress goes through it under `--log-json`."""

    def __init__(self, logger: str) -> None:
        self._logger, self._begun = logging.getLogger(logger), ""

    def write(self, text: str) -> int:
        """Log every line that is whole now."""
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            if line.strip():
                self._logger.info("%s", line.strip())
        return len(text)

    def flush(self) -> None:
        """Nothing is kept but a line that is not whole."""

    def isatty(self) -> bool:
        """Return that nobody looks."""
        return False


def lines(logger: str) -> TextIO:
    """Return a file to write lines to that become log lines of a logger."""
    return Lines(logger)  # type: ignore[return-value]
