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


CompareOption = Annotated[
    tuple[str, str] | None,
    Parameter(help="Two runs to set beside each other on the page, as `compare` takes them."),
]


PlotsOption = Annotated[
    Path | None, Parameter(help="Folder for the plots as files of their own, SVG and PNG.")
]
TablesOption = Annotated[
    Path | None, Parameter(help="Folder for the page's tables as CSV and Parquet.")
]


def report(
    *,
    output: OutputOption = None,
    capture: CaptureOption = None,
    compare: CompareOption = None,
    plots: PlotsOption = None,
    tables: TablesOption = None,
    common: Common = _DEFAULT,
) -> None:
    """Print the results and write the page: one file that needs nothing else."""
    config = common.load()
    run(config, capture, output, compare)
    if plots is None and tables is None:
        return
    from lakeinterp.report.files import write_plots, write_tables

    lake, out = common.open(config), console()
    for folder, write in ((plots, write_plots), (tables, write_tables)):
        if folder is not None:
            found = write(lake, folder, config, capture=capture)
            out.print(f"{len(found)} files in {folder}", soft_wrap=True, markup=False)


def run(
    config: Config,
    capture: str | None,
    output: Path | None,
    compare: tuple[str, str] | None = None,
) -> Path:
    """Print the summary, write the page and say where it is."""
    import lakeinterp
    from lakeinterp.lake import where
    from lakeinterp.report import summary, write_page
    from lakeinterp.report.compare import compare_all, shown

    lake = lakeinterp.open(config.lake, storage_options=config.store_options())
    name = str(lake.capture(capture)["capture"])
    if not lake.files("latents", where(capture=name)):
        raise ConfigError(f"{name} is not sampled yet: run `lakeinterp sample` first")
    out = console()
    out.print(summary(lake, config, capture=capture))
    inside = Path(lake.root) if lake.store.is_local else Path()
    compared = compare_all(lake, *compare, config) if compare else []
    for found in compared:
        out.print(shown(found))
    target = output or inside / "report.html"
    page = write_page(lake, target, config, capture=capture, compared=compared)
    out.print(f"\nthe page: {page} ({size(page.stat().st_size)})", soft_wrap=True)
    return page
