"""Every flow as a deployment of one process: no work pool, no worker, no file.

`python -m flows.serve --config lakeinterp.toml --cron "0 2 * * *"` waits for runs that are
asked for in the UI or by `prefect deployment run`, and runs the pipeline by the schedule.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from prefect import serve
from prefect.types.entrypoint import EntrypointType

from lakeinterp import cli
from lakeinterp.commands.common import Common

from .capture import capture
from .common import package
from .explain import explain
from .pipeline import pipeline
from .rescore import rescore
from .sample import sample
from .score import score
from .statistics import statistics
from .upkeep import upkeep

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

    from lakeinterp.config import Config

NAME = "served"
FLOWS = (capture, statistics, sample, explain, score, rescore, upkeep, pipeline)


def deployments(config: Config, cron: str | None = None) -> list[RunnerDeployment]:
    """Return a deployment of each flow with these settings as parameters.

    Args:
        config: Options of its object store are left out; give them by the environment.
        cron: When the pipeline runs by itself; None leaves it to be asked for.
    """
    parameters = {"config": config.model_dump(mode="json")}
    made: list[Any] = [
        flow.to_deployment(
            NAME,
            parameters=parameters,
            tags=["lakeinterp"],
            cron=cron if flow is pipeline else None,
            concurrency_limit=1,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow in FLOWS
    ]
    return made


def main(
    cron: Annotated[
        str | None, Parameter(help="When the pipeline runs by itself, as `0 2 * * *`.")
    ] = None,
    limit: Annotated[int, Parameter(help="Flows at one time.")] = 1,
    common: Common = Common(),  # noqa: B008 - frozen
) -> None:
    """Wait for runs of the flows and run them here, until interrupted."""
    serve(*deployments(common.load(), cron), limit=limit)


if __name__ == "__main__":
    app = App(name=f"python -m {package()}.serve", help=__doc__, help_format="plaintext")
    app.default(main)
    sys.exit(cli.run(sys.argv[1:], app))
