"""Runs the command line in processes that can be killed, without importing torch each time."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "lakeinterp.capture.run", "tests.capture.children", "datasets", "duckdb", "deltalake",
        "transformers.models.auto.modeling_auto", "transformers.models.gpt2.modeling_gpt2",
        "transformers.models.auto.tokenization_auto",
    ]
)  # fmt: skip


def _run(arguments: list[str], said: str, largest_file: int | None) -> None:
    from lakeinterp.cli import run

    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    code = run(arguments)
    sys.stdout.flush()
    os._exit(code)


def start(
    command: str, settings: dict[str, object], lake: Path, said: Path, *,
    largest_file: int | None = None,
) -> BaseProcess:  # fmt: skip
    """Start a command with settings on a lake; what it prints goes to the file `said`."""
    given = [f"{k}={json.dumps(v)}" for k, v in settings.items() if k != "lake"]
    arguments = [command, "--lake", str(lake), *[p for text in given for p in ("--set", text)]]
    process = _CONTEXT.Process(target=_run, args=(arguments, str(said), largest_file))
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for a process and return its exit code."""
    process.join(240)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def run(command: str, settings: dict[str, object], lake: Path, said: Path, **more: int) -> int:
    """Run a command to its end and return its exit code."""
    return finish(start(command, settings, lake, said, **more))
