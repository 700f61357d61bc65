"""Rows of `outputs`: what every latent's decoder row does to the logits, for pages and SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from lakeinterp.errors import ConfigError
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
    `Subject.output_logits`. A hookpoint is one commit, left alone if it has its rows; one that
    cannot be read does not stop the others.

    Args:
        lake: The lake.
        config: Where model and coders are, if they have moved since the capture.
        capture: Capture id; None takes the only one there is.
        hookpoints: Only these; empty takes all.
        n_tokens: Kept of each kind.
        progress: Called now and then with a hookpoint, latents done and latents to do.

    Returns:
        Latents whose rows were written.

    Raises:
        NotFound: no such capture or hookpoint, or its model or coder is gone.
        ConfigError: the model has no head, the files are not those that were captured, or a coder
            writes to no place that is added to the residual stream; raised at the end.
    """
    row, n_done = lake.capture(capture), 0
    name = str(row["capture"])
    stamp = int(digest([row["coder_revision"], row["model_revision"], n_tokens]), 16) >> 2 | 1
    todo = _left(lake, name, hookpoints, stamp)
    refused: ConfigError | None = None
    for hookpoint, n_latents in todo.items():

        def tell(n: int, hookpoint: str = hookpoint, n_before: int = n_done) -> None:
            if progress:
                progress(hookpoint, n_before + n, sum(todo.values()))

        bench = Bench(lake=lake, config=config, capture=name, hookpoint=hookpoint, sample="")
        try:
            rows = _rows(bench, n_latents, n_tokens, tell)
        except ConfigError as exc:
            refused = refused or exc
            continue
        mine = where(capture=name, hookpoint=hookpoint)
        lake.replace("outputs", rows, where=mine, app=_app(name, hookpoint), version=stamp)
        n_done += n_latents
    if refused:
        raise refused
    return n_done


def _left(lake: Lake, capture: str, hookpoints: Sequence[str], stamp: int) -> dict[str, int]:
    """Return the hookpoints without these rows, each with its number of latents."""
    return {
        str(place["hookpoint"]): int(place["n_latents"])
        for place in hookpoints_of(lake, capture, hookpoints)
        if lake.committed("outputs", _app(capture, str(place["hookpoint"]))) != stamp
    }


def _app(capture: str, hookpoint: str) -> str:
    """Return under which name the commit of a hookpoint is known."""
    return f"outputs/{capture}/{hookpoint}"


def _rows(bench: Bench, n_latents: int, n_tokens: int, tell: Callable[[int], None]) -> pa.Table:
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
                    [
                        {"token_id": t.token_id, "text": t.text, "logit": t.value}
                        for t in getattr(one, side)
                    ]
                    for one in moved
                ]
                for side in ("raised", "lowered")
            },
        }
        parts.append(pa.table(columns, schema=schema))
        tell(latents.stop)
    return pa.concat_tables(parts)
