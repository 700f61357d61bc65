"""A delphi cache into the lake: as a capture whose model and coder are not needed.

Rows are taken as they are, those at special tokens too: delphi keeps them. They are committed in
pieces of at most `ROWS`; the hookpoint's row and the count of captured sequences, without which
nothing is sampled, come after the last piece.
"""

from __future__ import annotations

import json
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from lakeinterp.bridges.base import Imported
from lakeinterp.bridges.delphi import layout
from lakeinterp.config import CorpusConfig
from lakeinterp.corpus import SequenceSource, Tokenizer
from lakeinterp.errors import ConfigError, NonFinite, NotFound
from lakeinterp.fingerprint import fingerprint
from lakeinterp.lake import where
from lakeinterp.lake.activations import bucket_latents, write_activations
from lakeinterp.lake.units import captured_sequences, shard_app
from lakeinterp.terms import digest, now

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lakeinterp.bridges.base import Import, Progress
    from lakeinterp.bridges.delphi.layout import Cache, Hookpoint, Split
    from lakeinterp.lake import Lake

ROWS = 2**21
"""Rows of one piece: what is sorted in memory and committed as one."""


class _Rows(NamedTuple):
    """Rows of one piece, ordered by (latent, token)."""

    latents: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    n_dropped: int


class _Textless:
    """Stands for a tokenizer that is not at hand."""

    digest = ""
    special: tuple[int, ...] = ()
    separator = None

    def bos(self, _: CorpusConfig) -> None:
        """Return no token."""


def import_cache(lake: Lake, options: Import, *, progress: Progress | None = None) -> Imported:
    """Read a cache; what an earlier, killed call committed is not read again.

    Args:
        lake: The lake.
        options: `path` is the folder of a run, its `latents`, or one hookpoint.
        progress: Called after each piece.

    Raises:
        ConfigError: the folder is no cache, a file does not fit, or the tokenizer is another.
        NotFound: there is no such folder, hookpoint or model.
        NonFinite: an activation is NaN or infinite.
    """
    cache = layout.find(options)
    corpus, tokenizer = _corpus(cache, options), _tokenizer(cache, options)
    source = SequenceSource(lake, corpus, tokenizer)
    n_sequences = _check_tokens(cache, source, tokenizer)
    row = _capture_row(cache, options, corpus, source, tokenizer)
    capture = str(row["capture"])
    names = tuple(h.name for h in cache.hookpoints)
    if not _is_started(lake, row):
        if not options.without_text and not lake.rows(
            "vocabulary", where(tokenizer=tokenizer.digest, token_id=0)
        ):
            lake.upsert("vocabulary", tokenizer.vocabulary(), scope={"tokenizer": tokenizer.digest})
        lake.upsert("captures", [row], scope={"capture": capture})
    elif captured_sequences(lake, capture):
        return Imported(capture, names, n_sequences, 0, 0, False)
    n_rows, n_dropped = _all(lake, cache, capture, n_sequences, options, progress)
    app = shard_app(capture, 0)
    is_new = lake.publish("activations", [], app=app, version=n_sequences)
    return Imported(capture, names, n_sequences, n_rows, n_dropped, is_new)


def _tokenizer(cache: Cache, options: Import) -> Tokenizer:
    """Return the tokenizer that the tokens are of.

    Raises:
        ConfigError: no model is named, or it is not at hand.
    """
    if options.without_text:
        return cast("Tokenizer", _Textless())
    model = options.model or cache.config.get("model_name")
    way_out = "give --model FOLDER, or --without-text to import without texts"
    if not model:
        raise ConfigError(f"delphi cache: it does not name its model: {way_out}")
    try:
        return Tokenizer(str(model))
    except NotFound as exc:
        raise ConfigError(f"delphi cache: {exc}; {way_out}") from exc


def _corpus(cache: Cache, options: Import) -> CorpusConfig:
    """Return the settings that give the cache's tokens as ready sequences."""
    if cache.holder is None and options.tokens is None:
        raise ConfigError(
            f"delphi cache: {cache.hookpoints[0].folder} holds no tokens: give --tokens, the "
            f"sequences of {cache.context_tokens} token ids that it was made from, as .npy, "
            "Parquet or another cache of the run"
        )
    place = cache.holder.place if cache.holder else Path(options.tokens or "")
    return CorpusConfig(dataset=str(place), context_tokens=cache.context_tokens)


def _check_tokens(cache: Cache, source: SequenceSource, tokenizer: Tokenizer) -> int:
    """Store the sequences and return how many there are.

    Raises:
        ConfigError: splits hold different tokens, or ids that the tokenizer does not know.
    """
    holder = cache.holder
    for hookpoint in cache.hookpoints:
        for split in hookpoint.splits:
            if holder and split.tokens and not _equal(holder, split):
                raise ConfigError(
                    f"delphi cache: {split.path} and {holder.path} hold different tokens; they are "
                    "of two runs"
                )
    known = None if isinstance(tokenizer, _Textless) else len(tokenizer.vocabulary())
    n_sequences = 0
    with closing(source.read(0, 2**62)) as chunks:
        for chunk in chunks:
            largest = max(max(sequence.tokens) for sequence in chunk)
            if known is not None and largest >= known:
                raise ConfigError(
                    f"delphi cache: holds token {largest}, but the tokenizer has {known}: give the "
                    "model it was made with as --model"
                )
            n_sequences += len(chunk)
    return n_sequences


def _equal(one: Split, other: Split) -> bool:
    assert one.tokens is not None, "asked of splits that hold tokens"
    assert other.tokens is not None, "asked of splits that hold tokens"
    if one.tokens.shape != other.tokens.shape:
        return False
    starts = range(0, one.tokens.shape[0], 4096)
    return all(
        np.array_equal(one.tokens.rows(s, s + 4096), other.tokens.rows(s, s + 4096)) for s in starts
    )


def _capture_row(
    cache: Cache, options: Import, corpus: CorpusConfig, source: SequenceSource,
    tokenizer: Tokenizer,
) -> dict[str, Any]:  # fmt: skip
    """Return the row of `captures`; its name follows from what is read."""
    identity = {
        "import": "delphi",
        "files": {h.name: _fingerprint(h) for h in cache.hookpoints},
        "corpus": source.corpus,
        "rows": ROWS,
    }
    model = str(options.model or cache.config.get("model_name") or "")
    name = options.name or f"{model.rstrip('/').rsplit('/', 1)[-1] or 'delphi'}-delphi-"
    return {
        "capture": name if options.name else name + digest(identity, size=4),
        "created_at": now(),
        "model": model,
        "model_revision": "",
        "tokenizer": tokenizer.digest,
        "coder": str(cache.run.get("sparse_model", "")),
        "coder_revision": "",
        "corpus": source.corpus,
        "context_tokens": cache.context_tokens,
        "excluded": [],
        "value_dtype": cache.value_dtype,
        "config": json.dumps(
            {
                "identity": identity,
                "corpus": corpus.model_dump(mode="json"),
                "delphi": {"config": cache.config, "run_config": cache.run},
            }
        ),
        "versions": json.dumps({name: version(name) for name in ("deltalake", "pyarrow")}),
    }


def _fingerprint(hookpoint: Hookpoint) -> str:
    return digest([fingerprint(split.path) for split in hookpoint.splits])


def _is_started(lake: Lake, row: dict[str, Any]) -> bool:
    """Whether the lake holds this import's row.

    Raises:
        ConfigError: it holds another capture of this name.
    """
    for earlier in lake.rows("captures", where(capture=row["capture"])):
        if json.loads(earlier["config"])["identity"] != json.loads(row["config"])["identity"]:
            raise ConfigError(
                f"delphi cache: the lake holds another capture {row['capture']!r}; choose another "
                "name with --name"
            )
        return True
    return False


def _all(
    lake: Lake, cache: Cache, capture: str, n_sequences: int, options: Import,
    progress: Progress | None,
) -> tuple[int, int]:  # fmt: skip
    """Commit the pieces of every hookpoint; return the rows of this run and those left out."""
    n_rows, n_dropped, done = 0, 0, 0
    total = sum(h.n_rows for h in cache.hookpoints)
    for hookpoint in cache.hookpoints:
        for split in hookpoint.splits:
            for piece, first, stop in _pieces(split):
                app = f"import/{capture}/{hookpoint.name}/{split.first:08d}/{piece:06d}"
                if not lake.committed("activations", app):
                    rows = _rows(split, first, stop, n_sequences, cache.context_tokens, options)
                    _publish(lake, capture, hookpoint, split, piece, rows, app)
                    n_rows, n_dropped = n_rows + len(rows.values), n_dropped + rows.n_dropped
                done += stop - first
                if progress:
                    progress(done=done, total=total)
        n_tokens = n_sequences * cache.context_tokens
        lake.upsert(
            "hookpoints", [_hookpoint_row(capture, hookpoint, n_tokens)], scope={"capture": capture}
        )
    return n_rows, n_dropped


def _pieces(split: Split) -> Iterator[tuple[int, int, int]]:
    """Yield (piece, first row, row after its last); one piece if tokens are in no order."""
    last = (-1, -1)
    is_ordered = True
    for start in range(0, split.n_rows, ROWS):
        places = split.locations.rows(start, start + ROWS)[:, :2].astype(np.int64)
        keys = places[:, 0] << 32 | places[:, 1]
        here = (int(keys[0]), int(keys[-1]))
        is_ordered = is_ordered and last[1] <= here[0] and bool(np.all(keys[1:] >= keys[:-1]))
        last = here
    step = ROWS if is_ordered else max(1, split.n_rows)
    for piece, start in enumerate(range(0, split.n_rows, step)):
        yield piece, start, min(start + step, split.n_rows)


def _rows(
    split: Split, first: int, stop: int, n_sequences: int, context_tokens: int, options: Import
) -> _Rows:
    """Return some rows of a split as those of the lake.

    Raises:
        ConfigError: a row lies outside the split or the tokens, or twice at one place.
        NonFinite: an activation is NaN or infinite.
    """
    places = split.locations.rows(first, stop).astype(np.int64)
    bounds = np.array([n_sequences, context_tokens, split.stop - split.first])
    wrong = ((places < 0) | (places >= bounds)).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ConfigError(
            f"delphi cache: {split.path}: row {first + row} is at sequence, position and latent "
            f"{places[row].tolist()}, but there are only {bounds.tolist()}"
        )
    values = split.activations.rows(first, stop).astype(np.float32)
    latents, tokens = places[:, 2] + split.first, places[:, 0] * context_tokens + places[:, 1]
    finite = np.isfinite(values)
    if not finite.all() and not options.allow_nonfinite:
        row = int((~finite).argmax())
        raise NonFinite(
            f"delphi cache: {split.path}: activation {values[row]:g} of latent {latents[row]} at "
            f"sequence {places[row, 0]}, position {places[row, 1]}; --allow-nonfinite leaves such "
            "rows out"
        )
    kept = np.flatnonzero(finite & (values != 0))
    order = kept[np.lexsort((tokens[kept], latents[kept]))]
    rows = _Rows(
        latents[order].astype(np.int32), tokens[order], values[order], stop - first - len(kept)
    )
    twice = (rows.latents[1:] == rows.latents[:-1]) & (rows.tokens[1:] == rows.tokens[:-1])
    if twice.any():
        row = int(twice.argmax())
        sequence, position = divmod(int(rows.tokens[row]), context_tokens)
        raise ConfigError(
            f"delphi cache: {split.path}: latent {rows.latents[row]} is twice at sequence "
            f"{sequence}, position {position}"
        )
    return rows


def _publish(
    lake: Lake, capture: str, hookpoint: Hookpoint, split: Split, piece: int, rows: _Rows, app: str
) -> None:
    files = write_activations(
        lake.store,
        capture=capture,
        hookpoint=hookpoint.name,
        latents_per_bucket=bucket_latents(hookpoint.n_latents, None),
        latents=rows.latents,
        tokens=rows.tokens,
        values=rows.values,
        name=f"{split.first:08d}-{piece:06d}",
    )
    lake.publish("activations", files, app=app, version=1)


def _hookpoint_row(capture: str, hookpoint: Hookpoint, n_tokens: int) -> dict[str, Any]:
    return {
        "capture": capture,
        "hookpoint": hookpoint.name,
        "format": "delphi",
        "architecture": None,
        "site": None,
        "module": hookpoint.name,
        "d_in": None,
        "n_latents": hookpoint.n_latents,
        "bucket_latents": bucket_latents(hookpoint.n_latents, None),
        "k": None,
        "l0": hookpoint.n_rows / n_tokens,
        "explained_variance": None,
        "checks": json.dumps({"n_tokens": n_tokens, "l0": hookpoint.n_rows / n_tokens}),
    }
