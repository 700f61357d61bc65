"""Vectors of texts by a local model of `sentence-transformers`.

Shapes: N texts, D width of a vector.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lakeinterp import hub
from lakeinterp.errors import ConfigError, MissingExtra
from lakeinterp.fingerprint import identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def identity(self) -> str:
        """What tells its vectors from those of another."""
        ...

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of texts, [N, D], each of length one; that of no text is zero."""
        ...


class SentenceEmbedder:
    """A model of `sentence-transformers`, loaded when the first text comes.

    Args:
        name: Folder or hub id.
        revision: Of a hub model.

    Raises:
        NotFound: there is no such model.
        ConfigError: when the first text comes: the folder holds none.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        hub.require("model", name)
        self._name, self._revision = name, revision
        self._model: Any = None
        self.identity = identity(name, revision)

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of texts, [N, D]."""
        if self._model is None:
            self._model = self._load()
        is_text = np.fromiter(map(bool, texts), bool, len(texts))
        # Some tokenizers make nothing of no text, and a model cannot read that.
        told = [text for text in texts if text] or ["."]
        vectors = self._model.encode(
            told, batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )
        found = np.zeros((len(texts), vectors.shape[1]), np.float32)
        found[is_text] = vectors[: is_text.sum()]
        return found

    def _load(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging as bars_of
        except ImportError as exc:
            raise MissingExtra("comparing texts", "embed", "sentence-transformers") from exc
        bars = bars_of.is_progress_bar_enabled()
        bars_of.disable_progress_bar()
        path = Path(self._name).expanduser()
        place = str(path) if path.is_dir() else self._name
        try:
            with hub.quiet(), _unsaid():
                model = SentenceTransformer(place, revision=self._revision)
            # Half precision is many times slower on a CPU.
            return model.float() if model.device.type == "cpu" else model
        except hub.failures() as exc:
            if Path(self._name).expanduser().is_dir():
                raise ConfigError(
                    f"{self._name} holds no embedding model: {str(exc).splitlines()[0]}"
                ) from exc
            raise hub.not_found("embedding model", self._name, exc) from exc
        finally:
            if bars:
                bars_of.enable_progress_bar()


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keep the warning about half precision back: it is mended at once."""
    said = logging.getLogger("sentence_transformers")
    level = said.level
    said.setLevel(logging.ERROR)
    try:
        yield
    finally:
        said.setLevel(level)


def require_embedder() -> None:
    """Refuse to go on where no embedding model can run; loads nothing.

    Raises:
        MissingExtra: sentence-transformers is not installed.
    """
    if find_spec("sentence_transformers") is None:
        raise MissingExtra("comparing texts", "embed", "sentence-transformers")


def open_embedder(name: str, revision: str | None = None) -> SentenceEmbedder:
    """Return the embedding model of a folder or hub id; the one used last is kept.

    A folder whose files have changed is opened again.

    Raises:
        NotFound: there is no such model.
    """
    return _opened(name, revision, identity(name, revision))


@lru_cache(maxsize=1)
def _opened(name: str, revision: str | None, _: str) -> SentenceEmbedder:
    return SentenceEmbedder(name, revision)
