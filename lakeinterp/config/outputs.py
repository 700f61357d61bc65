"""Settings of flows and reports."""

from __future__ import annotations

from lakeinterp.config.section import Positive, Section


class FlowsConfig(Section):
    """How the Prefect flows run."""

    workers: Positive = 2
    """Tasks at one time; each needs memory for its own unit or hookpoint, and each that asks a
    language model has `chat.concurrency` calls of its own."""


class ReportConfig(Section):
    """What the page shows."""

    title: str = "lakeinterp report"
    """Heading of the page."""
    max_latents: Positive = 500
    """Latents shown in full, best score first; the rest are counted."""
    examples_per_section: Positive = 3
    """Examples shown for each quantile or stratum of a role."""
