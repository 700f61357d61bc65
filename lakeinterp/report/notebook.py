"""One latent for a notebook: HTML without a script that fetches nothing, and a line of text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakeinterp.config import load
from lakeinterp.errors import ConfigError
from lakeinterp.lake import queries, units
from lakeinterp.lake.fit import as_records
from lakeinterp.report import words
from lakeinterp.report.details import listed
from lakeinterp.report.page import Names, asset, environment
from lakeinterp.report.reader import Reader

if TYPE_CHECKING:
    from markupsafe import Markup

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake
    from lakeinterp.report.records import Latent


@dataclass(frozen=True, slots=True, repr=False)
class LatentView:
    """A latent with its explanations, scores and examples."""

    latent: Latent
    """As the page has it."""
    metric: str
    """The headline metric."""
    html: str = field(repr=False)
    """What a notebook shows."""

    def __repr__(self) -> str:
        """Return the latent, its explanations and their scores as text."""
        one = self.latent.listed
        lines = [f"{one.hookpoint} latent {one.latent}, {words.status_name(one.status)}"]
        for e in self.latent.explanations:
            text = e.text if e.text is not None else f"({words.status_name(e.status)})"
            lines.append(f"  {e.explainer}: {words.one_line(text)}")
            for s in e.scores:
                if s.metric == self.metric:
                    bounds = words.interval(s.ci_low, s.ci_high)
                    null = f", null {words.score(s.null_value)}" if s.null_value is not None else ""
                    figure = f"{words.score(s.value)} ({bounds}{null})" if bounds else "no interval"
                    lines.append(f"    {s.scorer}, {words.metric_name(s.metric)}: {figure}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return self.html


def latent_view(
    lake: Lake,
    hookpoint: str,
    latent: int,
    *,
    capture: str | None = None,
    config: Config | None = None,
) -> LatentView:
    """Read one latent.

    Args:
        lake: The lake.
        hookpoint: Where the latent is.
        latent: Its number.
        capture: Name; None takes the only one there is.
        config: `score.headline` and `report.examples_per_section`; None takes the defaults.

    Raises:
        NotFound: no such capture or hookpoint.
        ConfigError: the coder has no such latent.
    """
    with Reader(lake, config or load(), capture) as reader:
        (row,) = units.hookpoints(lake, reader.name, [hookpoint])
        if not 0 <= latent < row["n_latents"]:
            raise ConfigError(f"{hookpoint} has latents 0 to {row['n_latents'] - 1}, not {latent}")
        key = {"capture": reader.name, "hookpoint": hookpoint, "latent": latent}
        counted = as_records(queries.load("web/latent").table(reader.con, **key))
        one = listed(hookpoint, latent, next(iter(counted), None), reader.vocabulary)
        (full,) = reader.in_full([one])
        html = environment().get_template("notebook.html").render(
            latent=full, names=Names(reader), metric=reader.metric, style=_scoped_style()
        )  # fmt: skip
    return LatentView(full, reader.metric, html)


def _scoped_style() -> Markup:
    """Return the page's style for the elements of one view alone."""
    return asset("style.css").replace(":root", ":scope").replace("\nbody {", "\n:scope {")
