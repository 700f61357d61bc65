"""How one latent changed over time, as its page shows it: moments of `sql/report/drift.sql`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakeinterp.lake import queries, where
from lakeinterp.lake.fit import as_records
from lakeinterp.report import plots
from lakeinterp.report.drift import Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from lakeinterp.report.plots import Densities
    from lakeinterp.report.records import Pair
    from lakeinterp.web.shelf import Shelf

Row = dict[str, Any]
_N_TOKENS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A latent's moments and the plots of them."""

    pair: Pair
    """Whose scores they are: of the pairs the one that scored the latent most often."""
    moments: tuple[tuple[Moment, tuple[str, ...]], ...]
    """The newest first, each with the texts of its top tokens."""
    scores: Densities | None
    """None if it was not scored twice."""
    densities: Densities | None
    """None if it was not counted twice."""


def followed(
    con: duckdb.DuckDBPyConnection, shelf: Shelf, key: Row, history: Sequence[Row]
) -> Followed | None:
    """Return how a latent changed; None if there is no more than one moment of it.

    Args:
        con: Shows the latent's rows of `history`, `explanations` and `scores`.
        shelf: Of the capture.
        key: The latent: `capture`, `hookpoint`, `latent`.
        history: Rows of `web/history`.
    """
    n_scores = Counter((row["explainer"], row["scorer"]) for row in history)
    pair = max(shelf.pairs, key=lambda pair: n_scores[pair.explainer, pair.scorer])
    if n_scores[pair.explainer, pair.scorer] < 2 and not _is_recorded(shelf, key):
        return None
    rows = queries.load("report/drift").table(
        con, capture=key["capture"], hookpoints=[key["hookpoint"]], latents=[key["latent"]],
        explainer=pair.explainer, scorer=pair.scorer, metric=shelf.reader.metric,
    )  # fmt: skip
    found = [Moment(**row) for row in as_records(rows)]
    if len(found) < 2:
        return None
    return Followed(
        pair=pair,
        moments=tuple((moment, _tokens(shelf, moment)) for moment in reversed(found)),
        scores=plots.scores_over_time(found, shelf.low),
        densities=plots.densities_over_time(found),
    )


def _is_recorded(shelf: Shelf, key: Row) -> bool:
    return bool(shelf.reader.lake.files("history", where(**key)))


def _tokens(shelf: Shelf, moment: Moment) -> tuple[str, ...]:
    return tuple(shelf.vocabulary.text([i]) for i in (moment.top_tokens or ())[:_N_TOKENS])
