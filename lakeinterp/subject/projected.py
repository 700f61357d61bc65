"""Rows of `outputs`: what every latent's decoder row does to the logits, for pages and SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from lakeinterp.lake import Bench, where
from lakeinterp.lake import schema as schemas
from lakeinterp.lake.units import hookpoints as hookpoints_of
from lakeinterp.subject.opening import open_subject
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lakeinterp.config import Config
    from lakeinterp.lake import Lake

N_TOKENS = 10
"""Of each kind that are kept, if nothing else is asked for."""
_AT_ONCE = 2048
"""Latents whose tokens are objects at one time."""


def write_outputs(
    lake: Lake,
    config: Config,
    *,
    capture: str | None = None,
    hookpoints: Sequence[str] = (),
    n_tokens: int = N_TOKENS,
    progress: Callable[[str, int, int], None] | None = None,
) -> int:
    """Write the tokens that each latent makes likelier and less likely by its weights alone.

    The vocabulary projection of the decoder row (Gur-Arieh et al. 2025, arXiv 2501.08319); see
    `Subject.output_logits`. A hookpoint is one commit, and left alone if it has its rows.

    Args:
        lake: The lake.
        config: Where model and coders are, if they have moved since the capture.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        n_tokens: Kept of each kind.
        progress: Called after each hookpoint with its name, how many are done and there are.

    Returns:
        Latents whose rows were written.

    Raises:
        NotFound: no such capture or hookpoint, or its model or coder is gone.
        ConfigError: the model has no head, the files are not those that were captured, or a coder
            writes to no place that is added to the residual stream.
    """
    row, n_written = lake.capture(capture), 0
    name = str(row["capture"])
    stamp = int(digest([row["coder_revision"], row["model_revision"], n_tokens]), 16) >> 2 | 1
    found = hookpoints_of(lake, name, hookpoints)
    for n_done, place in enumerate(found, start=1):
        hookpoint, n_latents = str(place["hookpoint"]), int(place["n_latents"])
        app = f"outputs/{name}/{hookpoint}"
        if lake.committed("outputs", app) != stamp:
            bench = Bench(lake=lake, config=config, capture=name, hookpoint=hookpoint, sample="")
            rows = _rows(bench, n_latents, n_tokens)
            key = where(capture=name, hookpoint=hookpoint)
            lake.replace("outputs", rows, where=key, app=app, version=stamp)
            n_written += n_latents
        if progress:
            progress(hookpoint, n_done, len(found))
    return n_written


def _rows(bench: Bench, n_latents: int, n_tokens: int) -> pa.Table:
    """Return a hookpoint's rows, made in parts: as objects they are far larger than as Arrow."""
    subject, schema = open_subject(bench), schemas.table("outputs").schema
    parts = []
    for first in range(0, n_latents, _AT_ONCE):
        latents = range(first, min(first + _AT_ONCE, n_latents))
        moved = subject.output_logits(latents, n_tokens)
        columns = {
            "capture": [bench.capture] * len(latents),
            "hookpoint": [bench.hookpoint] * len(latents),
            "latent": list(latents),
            **{
                side: [
                    [{"text": t.text, "logit": t.value} for t in getattr(one, side)]
                    for one in moved
                ]
                for side in ("raised", "lowered")
            },
        }
        parts.append(pa.table(columns, schema=schema))
    return pa.concat_tables(parts)
