"""An index over vectors of texts that lies in files and is read a part at a time.

Shapes: N texts, D width of a vector, Q queries, K neighbours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lakeinterp.errors import MissingExtra
from lakeinterp.terms import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from lakeinterp.embedder import Embedder

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

TEXTS_A_PART = 16_384
"""Texts whose vectors lie in one file, what a kill costs; at a width of 384 it has 25 MB."""


@dataclass(frozen=True, slots=True)
class Index:
    """Vectors of numbered texts in files of `TEXTS_A_PART` each; only whole files have names.

    Texts keep their numbers when more are added, so only the last file is made again.
    """

    folder: Path
    n_texts: int
    texts_a_part: int = TEXTS_A_PART

    def build(
        self,
        texts: Callable[[int, int], Iterable[Sequence[str]]],
        embed: Embedder,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Make the files that are not there, one after the other, and return how many it made.

        Args:
            texts: From a first number and the one after the last to the texts, in batches.
            embed: Makes the vectors.
            progress: Called after each batch with the texts embedded and those there are.
        """
        faiss = _faiss()
        n_made = 0
        for first, stop, path in self._parts():
            if path.is_file():
                continue
            index = None
            for batch in texts(first, stop):
                vectors_ND = embed(batch)
                index = faiss.IndexFlatIP(vectors_ND.shape[1]) if index is None else index
                index.add(vectors_ND)
                if progress:
                    progress(first + index.ntotal, self.n_texts)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.part")
            faiss.write_index(index, str(unfinished))
            unfinished.replace(path)
            for older in self.folder.glob(f"{path.name.partition('-')[0]}-*.faiss"):
                if older != path:
                    older.unlink(missing_ok=True)
            n_made += 1
        return n_made

    def vectors(self, numbers: Ints) -> Floats:
        """Return the vectors of some texts, [N, D]."""
        faiss = _faiss()
        found: list[Floats] = [np.empty((0, 0), np.float32)] * len(numbers)
        for first, stop, path in self._parts():
            here = np.flatnonzero((numbers >= first) & (numbers < stop))
            if len(here):
                index = faiss.read_index(str(path))
                for i, vector_D in zip(
                    here, index.reconstruct_batch(numbers[here] - first), strict=True
                ):
                    found[i] = vector_D
        return np.stack(found)

    def search(self, queries_QD: Floats, k: int) -> tuple[Floats, Ints]:
        """Return inner products and numbers of the K nearest texts of each query, [Q, K].

        K is `k` or the number of texts, if that is less; one file is in memory at a time.
        """
        faiss = _faiss()
        near_QK = np.empty((len(queries_QD), 0), np.float32)
        text_QK = np.empty((len(queries_QD), 0), np.int64)
        for first, stop, path in self._parts():
            index = faiss.read_index(str(path))
            part_near_QK, part_text_QK = index.search(queries_QD, min(k, stop - first))
            near_QK = np.concatenate([near_QK, part_near_QK], axis=1)
            text_QK = np.concatenate([text_QK, part_text_QK + first], axis=1)
            best_QK = np.argsort(-near_QK, axis=1, kind="stable")[:, :k]
            near_QK = np.take_along_axis(near_QK, best_QK, axis=1)
            text_QK = np.take_along_axis(text_QK, best_QK, axis=1)
        return near_QK, text_QK

    def _parts(self) -> Iterator[tuple[int, int, Path]]:
        """Yield first text, the one after the last, and file of each part."""
        for part, first in enumerate(range(0, self.n_texts, self.texts_a_part)):
            stop = min(first + self.texts_a_part, self.n_texts)
            yield first, stop, self.folder / f"{part:06d}-{stop - first}.faiss"


def index_name(*made_from: object) -> str:
    """Return the name of the folder for an index, by all that decides its vectors."""
    return digest(list(made_from))


def require_index() -> None:
    """Refuse to go on where no index can be built.

    Raises:
        MissingExtra: faiss is not installed.
    """
    _faiss()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as exc:
        raise MissingExtra("similar text", "embed", "faiss-cpu") from exc
    return faiss
