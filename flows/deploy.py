"""What `prefect deploy` asks of this package: the settings, once for every deployment.

In an installed package, `python -m lakeinterp.flows.deploy` writes `prefect.yaml` and
`automations.yaml` here; a checkout has them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lakeinterp import config
from lakeinterp.errors import ConfigError

from .common import package

NAME = "prefect.yaml"
AUTOMATIONS = "automations.yaml"


def settings(file: str = "lakeinterp.toml") -> dict[str, Any]:
    """Return what `prefect.yaml` fills in: every setting, and the folder that flows run in.

    A step of `prefect deploy`. Options of an object store are left out, for Prefect would show
    them: give workers the usual environment variables, as AWS_ENDPOINT_URL.

    Args:
        file: TOML file, from the folder that `prefect deploy` is run in.

    Raises:
        NotFound: there is no such file.
        ConfigError: a setting is wrong.
    """
    found = config.load(file)
    return {"config": found.model_dump(mode="json"), "directory": str(Path.cwd())}


def write(folder: Path) -> Path:
    """Write `prefect.yaml` with the flows' names as this package has them; return where it is.

    What the server may do by itself is written beside it, as `automations.yaml`.

    Raises:
        ConfigError: one of the two is there already.
    """
    targets = {name: folder / name for name in (NAME, AUTOMATIONS)}
    for target in targets.values():
        if target.exists():
            raise ConfigError(f"{target} is there already: move it away first")
    for name, target in targets.items():
        text = _shipped(name).read_text(encoding="utf-8")
        for before in ("entrypoint: ", "  - "):
            text = text.replace(f"{before}flows.", f"{before}{package()}.")
        target.write_text(text, encoding="utf-8")
    return targets[NAME]


def _shipped(name: str) -> Path:
    """Return a file beside the flows in a package, above them in a checkout."""
    here = Path(__file__).parent
    return here / name if (here / name).is_file() else here.parent / name


if __name__ == "__main__":
    try:
        sys.stdout.write(f"wrote {write(Path.cwd())} and {AUTOMATIONS}\n")
    except ConfigError as exc:
        sys.exit(f"error: {exc}")
