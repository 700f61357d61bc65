"""What is looked at before a model is opened: cheap, without torch, and nothing is loaded."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakeinterp import hub
from lakeinterp.errors import ConfigError, MissingExtra, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeinterp.lake.bench import Bench


def require_torch(wanted_for: str) -> None:
    """Refuse to go on where no model can run.

    Args:
        wanted_for: Who needs it, for the message.

    Raises:
        MissingExtra: a package that runs models is not installed.
    """
    for package in ("torch", "transformers", "nnsight"):
        if find_spec(package) is None:
            raise MissingExtra(wanted_for, "capture", package)


def made_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row of `captures` says that it was made with: capture, corpus, identity.

    Raises:
        ConfigError: another tool made it, and it does not say.
    """
    made: dict[str, Any] = json.loads(row["config"] or "{}")
    if not {"capture", "corpus", "identity"} <= made.keys():
        raise ConfigError(
            f"capture {row['capture']}: it does not say which model and coder it was made with; "
            "what runs the model needs a capture made by `lakeinterp capture`"
        )
    return made


def check_subject(bench: Bench) -> None:
    """Refuse a capture whose model cannot be opened again, as far as that is seen at once.

    Raises:
        ConfigError: the capture does not say which model and coder it was made with.
        NotFound: they are not where they were, and the settings name no other place.
    """
    captured = made_of(bench.lake.capture(bench.capture))["capture"]
    present = bench.config.capture
    model, coder = captured["model"], captured["coder"]
    if not is_there(model) and not present.model:
        raise NotFound("model", model, hint="set capture.model to where the captured model is now")
    hub.require("model", model if is_there(model) else present.model)
    if coder and not is_there(coder) and not present.coder:
        raise NotFound("coder", coder, hint="set capture.coder to where the captured coder is now")


def is_there(name: str) -> bool:
    """Whether a path leads to something; an id of the hub is not looked up here."""
    return not name.startswith((".", "/", "~")) or Path(name).expanduser().exists()
