"""The command line: a table of names, `module:function` strings and one-line help.

Nothing heavy is imported until a command runs. Exit codes: 0 done; 2 something the user can mend;
3 finished with failures, which were counted; 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import nullcontext
from typing import TYPE_CHECKING, NoReturn

from cyclopts import App, CycloptsError, Group

from lakeinterp import logs
from lakeinterp.errors import LakeinterpError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PIPELINE, _LAKE, _TOOL = (
    Group(name, sort_key=place) for place, name in enumerate(("Pipeline", "Lake", "Tool"))
)
_COMMANDS = (
    (
        "demo",
        _PIPELINE,
        "Run everything on the model, coders and corpus that ship with lakeinterp.",
    ),
    ("run", _PIPELINE, "Capture, sample, explain, score and report in one go."),
    ("plan", _PIPELINE, "Estimate bytes, time, memory and calls from a small slice."),
    ("capture", _PIPELINE, "Run a model and its sparse coders over a corpus into the lake."),
    ("sample", _PIPELINE, "Compute latent statistics and draw examples for each latent."),
    ("explain", _PIPELINE, "Say what each latent means."),
    ("score", _PIPELINE, "Say how far each explanation can be trusted."),
    ("rescore", _PIPELINE, "Do again what more tokens, new settings or time made out of date."),
    ("outputs", _PIPELINE, "Read off the model which tokens each latent makes likelier."),
    ("report", _PIPELINE, "Print the results and write the page."),
    ("compare", _PIPELINE, "Compare two explainers, judges, coders or captures, with intervals."),
    ("examples", _LAKE, "Print a latent's examples, shaded by activation."),
    ("serve", _LAKE, "Serve a read-only web page over the lake."),
    ("sql", _LAKE, "Run one read-only SQL statement over the lake's tables."),
    ("status", _LAKE, "Show what the lake holds and what is unfinished."),
    ("stale", _LAKE, "Show what is out of date, why, and what redoing it would cost."),
    ("drift", _LAKE, "Show how latents and their scores changed over time."),
    ("replies", _LAKE, "List, show, count and export what language models said."),
    ("compact", _LAKE, "Merge many small files into few."),
    ("import", _LAKE, "Read what another tool has stored, a cache of delphi for example."),
    ("export", _LAKE, "Write what the lake holds in another tool's format."),
    ("vacuum", _LAKE, "Delete files that no commit names any more."),
    ("forget", _LAKE, "Take a capture and all that was made from it out of the lake."),
    ("llm", _TOOL, "Serve a language model with vLLM, or ask through batch files."),
    ("doctor", _TOOL, "Show versions, devices and whether the configured routes answer."),
    ("prompts", _TOOL, "List, print or copy what language models are told."),
    ("config", _TOOL, "Show every setting with its value and what it means."),
    ("version", _TOOL, "Print the version."),
)

_LOG_JSON = "--log-json"

_TARGETS = {
    "import": "lakeinterp.commands.importing:import_",
    "export": "lakeinterp.commands.exporting:export",
}
"""Where a command is whose name cannot be a module's; the others are named after theirs."""


def make_app() -> App:
    """Return the application; its commands are imported when they are called."""
    app = App(
        name="lakeinterp",
        help="Explain the latents of sparse coders from a lake of activations, and score how far "
        "each explanation can be trusted.",
        version_flags=["--version"],
        version=_version,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        help_format="plaintext",
        group_commands=Group("Help", sort_key=9),
    )
    for place, (name, group, text) in enumerate(_COMMANDS):
        target = _TARGETS.get(name, f"lakeinterp.commands.{name}:{name}")
        app.command(target, name=name, group=group, help=text, sort_key=place)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str], app: App | None = None) -> int:
    """Run one command and return its exit code; errors are one line on standard error.

    Args:
        arguments: What follows the program's name.
        app: Another application than lakeinterp's own, for example a flow's.
    """
    with logs.run(), logs.as_json() if _LOG_JSON in arguments else nullcontext():
        return _run(arguments, app or make_app())


def _run(arguments: Sequence[str], app: App) -> int:
    wants_traceback = "--traceback" in arguments
    try:
        result = app(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as exc:
        return _fail(" ".join(str(exc).split()), 2, "see lakeinterp --help")
    except LakeinterpError as exc:
        if wants_traceback:
            traceback.print_exc()
        return _fail(str(exc), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command continues where this one stopped", 130)
    except BrokenPipeError:
        _forget_output()
        return 0
    except Exception as exc:
        from lakeinterp.commands.common import fault

        if (line := fault(exc)) is None:
            raise
        if wants_traceback:
            traceback.print_exc()
        return _fail(line, 2)
    return result if isinstance(result, int) else 0


def _forget_output() -> None:
    """Send what is still to be written to nowhere: nobody reads it, which is no error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _fail(message: str, code: int, hint: str = "") -> int:
    if logs.is_json():
        logging.getLogger("lakeinterp").error("%s", message, extra={"exit_code": code})
        return code
    tail = f"\n({hint})" if hint else ""
    sys.stderr.write(f"error: {message}{tail}\n")
    return code


def _version() -> str:
    from lakeinterp import __version__

    return f"lakeinterp {__version__}"


if __name__ == "__main__":
    main()
