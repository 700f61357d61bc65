"""Vectors of texts by a local model of `sentence-transformers`.

Shapes: N texts, D width of a vector.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lakeinterp import hub
from lakeinterp.errors import ConfigError, MissingExtra
from lakeinterp.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def identity(self) -> str:
        """What tells its vectors from those of another."""
        ...

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of texts, [N, D], each of length one."""
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
        is_folder = Path(name).expanduser().is_dir()
        self.identity = fingerprint(Path(name).expanduser()) if is_folder else f"{name}@{revision}"

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of texts, [N, D]."""
        if self._model is None:
            self._model = self._load()
        found = self._model.encode(
            list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )
        return np.ascontiguousarray(found, dtype=np.float32)

    def _load(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as exc:
            raise MissingExtra("comparing texts", "embed", "sentence-transformers") from exc
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        path = Path(self._name).expanduser()
        place = str(path) if path.is_dir() else self._name
        try:
            with hub.quiet():
                return SentenceTransformer(place, revision=self._revision)
        except hub.failures() as exc:
            if Path(self._name).expanduser().is_dir():
                raise ConfigError(
                    f"{self._name} holds no embedding model: {str(exc).splitlines()[0]}"
                ) from exc
            raise hub.not_found("embedding model", self._name, exc) from exc
        finally:
            if bars:
                logging.enable_progress_bar()


def require_embedder() -> None:
    """Refuse to go on where no embedding model can run; loads nothing.

    Raises:
        MissingExtra: sentence-transformers is not installed.
    """
    if find_spec("sentence_transformers") is None:
        raise MissingExtra("comparing texts", "embed", "sentence-transformers")


@lru_cache(maxsize=1)
def open_embedder(name: str, revision: str | None = None) -> SentenceEmbedder:
    """Return the embedding model of a folder or hub id; the one used last is kept.

    Raises:
        NotFound: there is no such model.
    """
    return SentenceEmbedder(name, revision)
