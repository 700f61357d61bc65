"""A lake as `lakeinterp.open` gives it: the tables, and single latents to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeinterp.lake import Lake

if TYPE_CHECKING:
    from lakeinterp.report.notebook import LatentView


class OpenedLake(Lake):
    """A lake that is there."""

    def latent(self, hookpoint: str, latent: int, *, capture: str | None = None) -> LatentView:
        """Return one latent: a notebook shows it as HTML, anything else as text.

        Args:
            hookpoint: Where it is.
            latent: Its number.
            capture: Name; None takes the only one there is.

        Raises:
            NotFound: no such capture or hookpoint.
            ConfigError: the coder has no such latent.
        """
        from lakeinterp.report.notebook import latent_view

        return latent_view(self, hookpoint, latent, capture=capture)
