"""Silent windows whose text is near that of a latent's own: one index over the corpus's tiles.

Built once for a corpus, an embedding model and a width of windows, and kept beside the lake's
tables; of a lake in an object store in this machine's cache. More tokens add to it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakeinterp.embedder import open_embedder
from lakeinterp.lake import queries
from lakeinterp.sampling.embeddings import Index, index_name, require_index
from lakeinterp.sampling.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lakeinterp.config import SamplingConfig
    from lakeinterp.embedder import Embedder
    from lakeinterp.lake.tables import Lake
    from lakeinterp.sampling.session import Session

FOLDER = "similar"
"""Below the lake, where the indexes are."""
_TEXTS_AT_ONCE = 1024
_K = 64
"""Tiles sought for each window at first; more where too few of them are silent."""
_FOUND_AT_ONCE = 2_000_000
"""Tiles that one search brings, at most, unless one window has more."""


def needed(config: SamplingConfig) -> bool:
    """Return whether windows of similar text are asked for."""
    return bool(config.n_similar or config.n_explain_similar)


def prepare(
    lake: Lake,
    capture: str | None,
    config: SamplingConfig,
    *,
    embedder: Embedder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Build the index over a capture's corpus, as far as it is not there; as `build`.

    Nothing is done unless windows of similar text are asked for.

    Raises:
        MissingExtra: faiss or sentence-transformers is not installed.
        NotFound: no such capture, or there is no such embedding model.
    """
    if needed(config):
        require_index()
        with open_session(lake, str(lake.capture(capture)["capture"]), config) as session:
            build(session, embedder, progress)


def nearest(session: Session, n: Mapping[str, int], embedder: Embedder | None = None) -> None:
    """Add to `candidates` the silent tiles nearest to the strongest windows of each latent.

    Their number grows eightfold for the latents that fire on too many of them, until it is
    enough or all tiles have been looked at.

    Args:
        session: With the tables `tiles`, `windows`, `cells` and `candidates`.
        n: `n_explain` and `n_score`, windows wanted of each role.
        embedder: Makes the vectors; None takes the model of the settings.

    Raises:
        MissingExtra: faiss or sentence-transformers is not installed.
        NotFound: there is no such embedding model.
    """
    config = session.config
    index = build(session, embedder)
    if index is None:
        return
    session.run("strata/queries", n_each=config.similar_to, **n)
    session.run("strata/found")
    k = max(_K, 4 * max(n.values()))
    while (wanted := queries.load("strata/sought").table(session.con, **n)).num_rows:
        at_once = max(1, _FOUND_AT_ONCE // min(k, index.n_texts))
        for first in range(0, wanted.num_rows, at_once):
            _search(session, index, wanted.slice(first, at_once), min(k, index.n_texts))
        if k >= index.n_texts:
            break
        k *= 8
    session.run("strata/similar", **n)


def build(
    session: Session,
    embedder: Embedder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Index | None:
    """Return the index over the session's tiles, made as far as it is not there; None of none.

    Args:
        session: Its corpus, captured tokens and settings decide which tiles there are.
        embedder: Makes the vectors; None takes the model of the settings.
        progress: Called with the tiles embedded and those there are.
    """
    config = session.config
    embed = embedder or open_embedder(config.embedding_model, config.embedding_revision)
    ((n_tiles,),) = session.con.execute("SELECT count(*) FROM tiles").fetchall()
    if not n_tiles:
        return None
    name = index_name(session.corpus, session.context_tokens, config.window_tokens, embed.identity)
    index = Index(_place(session) / name, int(n_tiles))
    index.build(lambda first, stop: _texts(session, first, stop), embed, progress)
    return index


def _search(session: Session, index: Index, wanted: pa.Table, k: int) -> None:
    """Put what is nearest to the wanted queries into the table `found`."""
    numbers = wanted["number"].to_numpy()
    unique, back = np.unique(numbers, return_inverse=True)
    near_QK, tile_QK = index.search(index.vectors(unique), k)
    width = near_QK.shape[1]
    rows = pa.table(
        {
            "latent": np.repeat(wanted["latent"].to_numpy(), width),
            "role": pa.array(wanted["role"].to_pylist()).take(
                pa.array(np.repeat(np.arange(len(numbers)), width))
            ),
            "query": np.repeat(wanted["query"].to_numpy(), width),
            "number": tile_QK[back].ravel(),
            # Vectors differ in their last digits from one machine to another.
            "similarity": np.round(near_QK[back].ravel().astype(np.float64), 4),
        }
    )
    session.con.register("nearest_tiles", rows)
    session.run("strata/find")
    session.con.unregister("nearest_tiles")


def _texts(session: Session, first: int, stop: int) -> Iterator[Sequence[str]]:
    """Yield the texts of a range of tiles in batches."""
    tokenizer = session.lake.capture(session.capture)["tokenizer"]
    vocabulary = session.lake.vocabulary(tokenizer)
    for start in range(first, stop, _TEXTS_AT_ONCE):
        rows = queries.load("strata/texts").table(
            session.con,
            first=start,
            stop=min(start + _TEXTS_AT_ONCE, stop),
            **session.text,
        )
        yield [vocabulary.text(tokens) for tokens in rows["tokens"].to_pylist()]


def _place(session: Session) -> Path:
    if session.lake.store.is_local:
        return Path(session.lake.root) / FOLDER
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "lakeinterp" / FOLDER
