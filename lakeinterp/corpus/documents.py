"""Text sources: the demo corpus, local files, folders of files, data sets of the hub.

A row of a source is a document: a record of JSON lines, Parquet or CSV; a paragraph of a text file.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from lakeinterp import hub
from lakeinterp.errors import ConfigError, MissingExtra, NotFound
from lakeinterp.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lakeinterp.config import CorpusConfig

T = TypeVar("T")
_LOADERS = {
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".txt": "text",
    ".text": "text",
}
_COMPRESSED = {".gz", ".zst"}


def document_id(text: str) -> int:
    """Return a stable 63-bit digest of a document's text, white space and Unicode form aside.

    Exact duplicates share it and so fall on the same side of every split.
    """
    normal = " ".join(unicodedata.normalize("NFC", text).split())
    encoded = normal.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "big") >> 1


def identity(config: CorpusConfig) -> dict[str, Any]:
    """Return what makes the corpus this one; local files count by content, not by place."""
    source: str = config.dataset
    if source != "demo" and Path(source).exists():
        source = f"{Path(source).name}:{fingerprint(source)}"
    settings = config.model_dump(mode="json", exclude={"dataset", "context_tokens", "bos"})
    return {"source": source, **settings}


def documents(config: CorpusConfig, *, skip: int = 0) -> Iterator[Any]:
    """Yield the text (or messages) of every row of the source in its order, from row `skip` on.

    Raises:
        ConfigError: no dataset is given, or the text column is missing or ambiguous.
        NotFound: the file does not exist, or the hub does not know the data set.
    """
    if not config.dataset:
        raise ConfigError("corpus.dataset: say where the text is: a file, a hub id, or demo")
    if config.dataset == "demo":
        rows = _demo()
    elif (path := Path(config.dataset)).exists():
        rows = _local(path, config)
    elif path.suffix in {*_LOADERS, *_COMPRESSED}:
        raise NotFound("dataset", config.dataset, hint="there is no such file")
    else:
        hub.require("dataset", config.dataset)
        ahead = 0 if config.shuffle_rows else skip
        rows, skip = _hub(config, ahead), skip - ahead
    if config.shuffle_rows:
        rows = shuffled(rows, config.shuffle_rows, config.shuffle_seed)
    return islice(rows, skip, None)


def shuffled(rows: Iterable[T], n_kept: int, seed: int) -> Iterator[T]:
    """Yield every row once, each drawn from the next `n_kept` of the source; memory is bounded."""
    dice = Random(seed)
    kept: list[T] = []
    for row in rows:
        if len(kept) < n_kept:
            kept.append(row)
            continue
        place = dice.randrange(n_kept)
        yield kept[place]
        kept[place] = row
    dice.shuffle(kept)
    yield from kept


def _demo() -> Iterator[str]:
    from lakeinterp.demo.corpus import documents as demo_documents

    return (text for _, text in demo_documents("heldout"))


def _local(path: Path, config: CorpusConfig) -> Iterator[Any]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if _loader(p))
    if not files:
        raise ConfigError(
            f"corpus.dataset: the folder {path} holds no {', '.join(sorted(_LOADERS))} file"
        )
    for file in files:
        yield from _file(file, config)


def _loader(path: Path) -> str | None:
    suffixes = [s for s in path.suffixes if s not in _COMPRESSED]
    return _LOADERS.get(suffixes[-1]) if suffixes else None


def _file(path: Path, config: CorpusConfig) -> Iterator[Any]:
    loader = _loader(path)
    if loader is None:
        known = ", ".join(sorted(_LOADERS))
        raise ConfigError(f"corpus.dataset: {path.name} is none of {known} (.gz and .zst too)")
    with _reading(path):
        if not path.stat().st_size:
            raise ConfigError(f"corpus.dataset: {path} is empty")
        if loader == "json" and _holds_bare_strings(path):
            yield from _bare_strings(path)
        elif loader == "text":
            yield from _paragraphs(path)
        else:
            yield from _texts(_load(loader, data_files=str(path), split="train"), config)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what readers raise for a file that is not what its name says into one clear line.

    Raises:
        ConfigError: the file is torn, or not UTF-8.
    """
    try:
        yield
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"corpus.dataset: {path} is not UTF-8; save it as UTF-8, for example with iconv"
        ) from exc
    except _reader_errors() as exc:
        said = " ".join(str(exc).split())
        raise ConfigError(f"corpus.dataset: {path} cannot be read: {said}") from exc


def _reader_errors() -> tuple[type[Exception], ...]:
    """Return what the loaded readers raise for torn files."""
    kinds: list[type[Exception]] = [OSError, EOFError, ValueError]
    named = (("zstandard", "ZstdError"), ("zlib", "error"), ("pyarrow", "ArrowException"))
    kinds += [getattr(sys.modules[module], name) for module, name in named if module in sys.modules]
    return tuple(kinds)


def _hub(config: CorpusConfig, skip: int) -> Iterator[Any]:
    name = config.dataset
    try:
        rows = _load(name, name=config.name, split=config.split, revision=config.revision)
        yield from _texts(rows.skip(skip), config)
    except hub.failures() as exc:
        raise hub.not_found("dataset", name, exc) from exc


def _load(path: str, **options: Any) -> Any:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetNotFoundError
    except ImportError as exc:
        raise MissingExtra("reading a corpus", "capture", "datasets") from exc
    try:
        return load_dataset(path, streaming=True, **options)
    except DatasetNotFoundError as exc:
        raise hub.not_found("dataset", path, exc) from exc
    except StopIteration as exc:
        raise ConfigError(f"corpus.dataset: {options.get('data_files', path)} is empty") from exc


def _texts(rows: Any, config: CorpusConfig) -> Iterator[Any]:
    column = config.column or ("messages" if config.chat else None)
    for row in rows:
        column = column or _text_column(row)
        if column not in row:
            raise ConfigError(f"corpus.column: no column {column!r} among {sorted(row)}")
        yield row[column] if config.chat else str(row[column] or "")


def _text_column(row: dict[str, Any]) -> str:
    if "text" in row:
        return "text"
    texts = [name for name, value in row.items() if isinstance(value, str)]
    if len(texts) != 1:
        raise ConfigError(f"corpus.column: name the text column, one of {sorted(row)}")
    return texts[0]


def _open(path: Path) -> Any:
    import fsspec

    return fsspec.open(str(path), "rt", encoding="utf-8", compression="infer").open()


def _paragraphs(path: Path) -> Iterator[str]:
    """Yield the blocks of a text file that blank lines set apart."""
    block: list[str] = []
    with _open(path) as lines:
        for line in lines:
            if line.strip():
                block.append(line)
            elif block:
                yield "".join(block)
                block = []
    if block:
        yield "".join(block)


def _holds_bare_strings(path: Path) -> bool:
    with _open(path) as lines:
        return bool(lines.readline().lstrip().startswith('"'))


def _bare_strings(path: Path) -> Iterator[str]:
    with _open(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as exc:
                raise ConfigError(f"corpus.dataset: {path.name} line {number}: {exc}") from exc
            if not isinstance(value, str):
                raise ConfigError(f"corpus.dataset: {path.name} line {number}: expected a string")
            yield value
