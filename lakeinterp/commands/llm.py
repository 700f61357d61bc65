"""`lakeinterp llm`: serve a model on this machine; ask through batch files."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from cyclopts import App, Group, Parameter, validators

from lakeinterp.commands.common import CaptureOption, Common, HookpointsOption, console, counts
from lakeinterp.commands.explain import ExplainerOption
from lakeinterp.commands.score import ScorersOption

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT = Common()

llm = App(
    name="llm",
    help="Serve a model with vLLM, or ask through batch files.",
    help_format="plaintext",
    version_flags=[],
    group_commands=Group("Commands"),
)
"""The application of the subcommands; its place and help are the command table's."""

batch = App(
    name="batch",
    help="Ask through batch files: slower, and cheaper where the provider says so.",
    help_format="plaintext",
    version_flags=[],
    group_commands=Group("Commands"),
)
llm.command(batch)


@llm.command
def serve(
    model: Annotated[str, Parameter(help="Name on the hub, or folder.")],
    /,
    *,
    port: Annotated[
        int | None,
        Parameter(help="On loopback; else a free one. [setting: chat.vllm.port]"),
    ] = None,
    log: Annotated[Path | None, Parameter(help="File for what the server says.")] = None,
    common: Common = _DEFAULT,
) -> None:
    """Serve a language model with vLLM on loopback until Ctrl-C.

    It is restarted when it dies, and ends with this command. The settings are `chat.vllm`.
    """
    from lakeinterp.chat.vllm import VllmServer

    server = VllmServer(model, common.load({"chat.vllm.port": port}).chat.vllm, log=log)
    out = console()
    out.print(f"starting {model}; log: {server.log}", soft_wrap=True)
    with _ended_by_sigterm(), server:
        out.print(
            f"serving at {server.url}; ask it with --config FILE that holds\n\n"
            f"[chat.explainer]\ndeployments = "
            f'[{{model = "hosted_vllm/{server.name}", api_base = "{server.url}"}}]\n',
            soft_wrap=True,
            markup=False,
        )
        server.wait()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that the server is stopped in order."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@batch.command
def submit(
    step: Annotated[Literal["explain", "score"], Parameter(help="Whose requests are sent.")],
    /,
    *,
    explainer: ExplainerOption = None,
    scorers: ScorersOption = None,
    capture: CaptureOption = None,
    hookpoints: HookpointsOption = (),
    common: Common = _DEFAULT,
) -> int:
    """Send the requests that a step would make, and whose replies the lake lacks, as batch files.

    Then collect the replies and run the step itself, with the same settings: it finds them.
    """
    from lakeinterp import pipeline

    config = common.load({"explain.explainer": explainer, "score.scorers": scorers})
    done = pipeline.submit(
        config, step, run=pipeline.new_run(), capture=capture, hookpoints=hookpoints
    )
    out = console()
    out.print(f"{step}: {counts(done.counts)}")
    for one in done.batches:
        out.print(f"  batch {one.remote}: {one.n:,} requests to {one.model}")
    if not done.batches:
        out.print(f"  nothing new to send; {done.n_awaited:,} requests are in batches already")
    return 0


@batch.command
def collect(
    *,
    wait: Annotated[
        bool, Parameter(help="Come back until every batch is answered.", negative=())
    ] = False,
    every_s: Annotated[
        float,
        Parameter(help="Seconds between two looks with --wait.", validator=validators.Number(gt=0)),
    ] = 60.0,
    common: Common = _DEFAULT,
) -> int:
    """Put the replies of finished batches into the lake; what got none waits to be sent again."""
    from lakeinterp import pipeline

    config, out, code = common.load(), console(), 0
    while True:
        found = pipeline.collect(config)
        out.print(
            f"{counts(found.statuses) if found.statuses else 'no replies yet'}; "
            f"{found.n_open:,} awaited, {found.n_again:,} to be sent again"
        )
        for problem in found.problems:
            out.print(f"  {problem}", markup=False)
        if found.problems or set(found.statuses) - {"ok"}:
            code = 3
        if not (wait and found.n_open):
            return code
        time.sleep(every_s)


@batch.command
def status(*, common: Common = _DEFAULT) -> None:
    """Show every batch of this lake and what the provider says of it."""
    from lakeinterp import pipeline

    out = console()
    n_waiting, found = pipeline.batch_states(common.load())
    for one, said in found:
        made = datetime.fromtimestamp(one.made, UTC)
        name = one.remote or "not sent yet"
        out.print(f"{name}  {made:%Y-%m-%d %H:%M} UTC  {one.model}  {one.n:,}: {said}")
    out.print(f"{n_waiting:,} requests wait to be sent")
