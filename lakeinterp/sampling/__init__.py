"""The sampling room: from activations to statistics and examples, by the statements of `sql/`."""

from lakeinterp.sampling.audit import audit_unit
from lakeinterp.sampling.examples import DrawnUnit, Shortfall, examples_unit
from lakeinterp.sampling.run import SampledUnit, sample, sample_unit
from lakeinterp.sampling.session import Session, open_session
from lakeinterp.sampling.statistics import CountedUnit, statistics_unit

__all__ = [
    "CountedUnit",
    "DrawnUnit",
    "SampledUnit",
    "Session",
    "Shortfall",
    "audit_unit",
    "examples_unit",
    "open_session",
    "sample",
    "sample_unit",
    "statistics_unit",
]
