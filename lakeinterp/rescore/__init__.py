"""What is out of date, why, and doing only that again: nightly tokens, new judges, old scores.

found = stale(lake, config)
done = rescore(config, run=pipeline.new_run())
"""

from lakeinterp.rescore.cost import Cost, costs, past
from lakeinterp.rescore.nightly import Refreshed, refresh, with_more_tokens
from lakeinterp.rescore.reckoning import reckoned
from lakeinterp.rescore.run import Rescored, rescore, within_budget
from lakeinterp.rescore.stale import Stale, Staleness, stale

__all__ = [
    "Cost",
    "Refreshed",
    "Rescored",
    "Stale",
    "Staleness",
    "costs",
    "past",
    "reckoned",
    "refresh",
    "rescore",
    "stale",
    "with_more_tokens",
    "within_budget",
]
