"""What `prefect deploy` asks of this package: the settings, once for every deployment.

In an installed package, `python -m lakeinterp.flows.deploy` writes a `prefect.yaml` here; a
checkout has one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lakeinterp import config
from lakeinterp.errors import ConfigError

from .common import package

NAME = "prefect.yaml"


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
    """Write `prefect.yaml` with the flows' names as this package has them.

    Raises:
        ConfigError: there is one already.
    """
    target = folder / NAME
    if target.exists():
        raise ConfigError(f"{target} is there already: move it away first")
    here = Path(__file__).parent
    shipped = here / NAME if (here / NAME).is_file() else here.parent / NAME
    text = shipped.read_text(encoding="utf-8")
    for before in ("entrypoint: ", "  - "):
        text = text.replace(f"{before}flows.", f"{before}{package()}.")
    target.write_text(text, encoding="utf-8")
    return target


if __name__ == "__main__":
    try:
        sys.stdout.write(f"wrote {write(Path.cwd())}\n")
    except ConfigError as exc:
        sys.exit(f"error: {exc}")
