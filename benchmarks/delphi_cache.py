"""Whether capture gives the rows that delphi wrote from the same tokens, and where it does not.

    python benchmarks/delphi_cache.py CACHE MODEL CODER

Reads a latent cache of delphi into a lake through the bridge, captures its tokens with the model
and the coders it was made with, rounded to the cache's precision, and compares row by row. Rows
at special tokens are counted apart: delphi stores them, capture leaves them out by design. Where
a value differs, a second capture in float32 says how far it lies from the edge between the two
roundings: sums of float32 in another order differ by about 1e-6, and only a value that near an
edge may be rounded to either side. Then the cache is exported again and compared byte by byte.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lakeinterp import bridges
from lakeinterp.bridges.base import Export, Import
from lakeinterp.capture import capture
from lakeinterp.config import load
from lakeinterp.corpus import Tokenizer
from lakeinterp.lake import Lake, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lakeinterp.config import Config

_SHIFT = 2**40
_SHOWN = 3
_ERROR = 4e-6
"""Largest difference of two float32 sums of some hundred products near 1."""


class Rows(NamedTuple):
    """Rows of one hookpoint in the order of their key."""

    key: npt.NDArray[np.int64]
    """latent x 2^40 + token."""
    value: npt.NDArray[np.float32]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a difference is left unexplained."""
    given = parsed(arguments)
    unexplained = 0
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(f"{folder}/lake")
        start = time.perf_counter()
        options = Import(path=given.cache, model=given.model)
        imported = bridges.importer("delphi")(lake, options)
        print(f"imported  {imported.n_rows:>9,} rows in {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        captured = capture(lake, settings(lake, imported.capture, given))
        print(f"captured  {captured.n_rows:>9,} rows in {time.perf_counter() - start:.1f} s")
        exact = capture(lake, settings(lake, imported.capture, given, "float32"))
        ids = (imported.capture, captured.capture, exact.capture)
        special = Tokenizer(given.model).special
        for hookpoint in imported.hookpoints:
            unexplained += compare(lake, hookpoint, ids, special)
        out = Path(folder) / "out"
        n_splits = len(list(given.cache.rglob(f"{imported.hookpoints[0]}/*.safetensors")))
        bridges.exporter("delphi")(
            lake, Export(path=out, capture=imported.capture, n_splits=n_splits)
        )
        report_files(out, given.cache)
    return int(unexplained > 0)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cache", type=Path, help="folder of the cache")
    parser.add_argument("model", help="model folder or hub id")
    parser.add_argument("coder", help="folder or hub id of the coders")
    return parser.parse_args(arguments)


def settings(
    lake: Lake, capture_id: str, given: argparse.Namespace, value_dtype: str | None = None
) -> Config:
    """Return settings that capture the cache's own tokens, in its precision unless one is given."""
    row = lake.capture(capture_id)
    corpus = json.loads(row["config"])["corpus"]
    hookpoints = tuple(h["hookpoint"] for h in lake.rows("hookpoints", where(capture=capture_id)))
    n_tokens = int(lake.sql("SELECT count(*) FROM sequences").fetchall()[0][0]) * int(
        row["context_tokens"]
    )
    values = {
        "lake": lake.root,
        "capture.model": given.model,
        "capture.coder": given.coder,
        "capture.hookpoints": hookpoints,
        "capture.value_dtype": value_dtype or row["value_dtype"],
        "capture.n_tokens": n_tokens,
        "capture.device": "cpu",
        "corpus.dataset": corpus["dataset"],
        "corpus.context_tokens": row["context_tokens"],
    }
    return load(values=values)


def rows_of(lake: Lake, capture_id: str, hookpoint: str) -> Rows:
    """Return all rows of a hookpoint, ordered."""
    key = where(capture=capture_id, hookpoint=hookpoint)
    with lake.connect(activations=key) as con:
        found = con.sql(
            f"SELECT latent * {_SHIFT} + token AS key, value FROM activations WHERE {key} "
            "ORDER BY key"
        ).fetchnumpy()
    return Rows(found["key"], found["value"])


def compare(lake: Lake, hookpoint: str, ids: tuple[str, str, str], special: list[int]) -> int:
    """Print the comparison of one hookpoint and return the rows whose difference is unexplained.

    Args:
        lake: The lake.
        hookpoint: The hookpoint.
        ids: Captures: of the cache, of its tokens in the same precision, and in float32.
        special: Ids that capture leaves out.
    """
    theirs, ours, exact = (rows_of(lake, capture_id, hookpoint) for capture_id in ids)
    tokens = stored_tokens(lake, ids[0])
    at_special = np.isin(tokens[theirs.key % _SHIFT], special)
    kept = Rows(theirs.key[~at_special], theirs.value[~at_special])
    both, here, there = np.intersect1d(kept.key, ours.key, return_indices=True)
    equal = kept.value[here] == ours.value[there]
    n_special = int(np.isin(tokens, special).sum())
    print(f"\n{hookpoint}")
    print(f"  rows of the cache                      {len(theirs.key):>9,}")
    print(f"  of them at special tokens              {int(at_special.sum()):>9,}")
    print(f"    ({n_special:,} tokens with an id among {special}; capture leaves them out)")
    print(f"  left to compare                        {len(kept.key):>9,}")
    print(f"  rows of the capture                    {len(ours.key):>9,}")
    print(f"  same latent and token                  {len(both):>9,}")
    print(f"  of them with the same value, bit by bit{int(equal.sum()):>9,}")
    only_theirs = np.setdiff1d(kept.key, ours.key)
    only_ours = np.setdiff1d(ours.key, kept.key)
    for title, keys in (("only in the cache", only_theirs), ("only in the capture", only_ours)):
        print(f"  {title:<39}{len(keys):>9,}")
        for key in keys[:_SHOWN]:
            print(f"    latent {key // _SHIFT} at token {key % _SHIFT}")
    mine, other = ours.value[there][~equal], kept.value[here][~equal]
    steps = np.abs(mine.astype("f2").view("i2").astype("i4") - other.astype("f2").view("i2"))
    edge = (mine.astype("f8") + other) / 2
    away = np.abs(exact.value[np.searchsorted(exact.key, both[~equal])] - edge)
    print(f"  values that differ                     {len(mine):>9,}")
    for place in range(min(_SHOWN, len(mine))):
        key = both[~equal][place]
        print(
            f"    latent {key // _SHIFT} at token {key % _SHIFT}: {other[place]:.7f} in the cache, "
            f"{mine[place]:.7f} here, {away[place]:.1e} from the edge between them"
        )
    if len(mine):
        print(f"    by steps of float16, at most         {int(steps.max()):>9,}")
        print(f"    from the edge of rounding, at most   {away.max():>9.1e}")
    n_unexplained = int((away > _ERROR).sum()) + len(only_theirs) + len(only_ours)
    print(f"  not explained by float32 rounding      {n_unexplained:>9,}")
    return n_unexplained


def stored_tokens(lake: Lake, capture_id: str) -> npt.NDArray[np.int32]:
    """Return the token ids of a capture's corpus, in order."""
    corpus = lake.capture(capture_id)["corpus"]
    with lake.connect(sequences=where(corpus=corpus)) as con:
        query = "SELECT unnest(tokens) AS id FROM (SELECT tokens FROM sequences WHERE corpus = $c "
        found = con.sql(query + "ORDER BY sequence)", params={"c": corpus}).fetchnumpy()
    ids: npt.NDArray[np.int32] = found["id"]
    return ids


def report_files(out: Path, cache: Path) -> None:
    """Print how many files of the export are those of the cache, byte by byte."""
    written = sorted(p for p in (out / "latents").rglob("*") if p.is_file())
    same = [
        p for p in written
        for q in cache.rglob(p.name)
        if q.parent.name == p.parent.name and filecmp.cmp(p, q, shallow=False)
    ]  # fmt: skip
    print(f"\nexported  {len(written)} files, {len(same)} of them byte by byte those of the cache")


if __name__ == "__main__":
    raise SystemExit(main())
