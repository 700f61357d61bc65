"""`lakeinterp report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakeinterp.commands.common import CaptureOption, Common, console, size
from lakeinterp.errors import ConfigError

if TYPE_CHECKING:
    from lakeinterp.config import Config

_DEFAULT = Common()

OutputOption = Annotated[
    Path | None, Parameter(help="Where the page goes. [default: report.html in the lake's folder]")
]


def report(
    *,
    output: OutputOption = None,
    capture: CaptureOption = None,
    common: Common = _DEFAULT,
) -> None:
    """Print the results and write the page: one file that needs nothing else."""
    run(common.load(), capture, output)


def run(config: Config, capture: str | None, output: Path | None) -> Path:
    """Print the summary, write the page and say where it is."""
    import lakeinterp
    from lakeinterp.lake import where
    from lakeinterp.report import summary, write_page

    lake = lakeinterp.open(config.lake, storage_options=config.store_options())
    name = str(lake.capture(capture)["capture"])
    if not lake.files("latents", where(capture=name)):
        raise ConfigError(f"{name} is not sampled yet: run `lakeinterp sample` first")
    out = console()
    out.print(summary(lake, config, capture=capture))
    inside = Path(lake.root) if lake.store.is_local else Path()
    page = write_page(lake, output or inside / "report.html", config, capture=capture)
    out.print(f"\nthe page: {page} ({size(page.stat().st_size)})", soft_wrap=True)
    return page
