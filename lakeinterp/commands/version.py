"""`lakeinterp version`."""

from lakeinterp import __version__
from lakeinterp.commands.common import console


def version() -> None:
    """Print the version."""
    console().print(f"lakeinterp {__version__}")
