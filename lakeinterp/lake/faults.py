"""What disks, object stores and damaged files do, as one clear line with the way out.

Delta, Arrow, DuckDB and the object-store clients each have exceptions of their own for the same
few things. They are told apart by what they say, because their types do not.
"""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakeinterp.errors import DamagedFile, LakeError, QueryError, SchemaError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_AGAIN = "then run the same command again: it continues where it stopped"
_DAMAGED = (
    "the table names it, and it is cut off, changed or gone: put it back from a copy, or run "
    "`lakeinterp forget` for its capture and capture again"
)
_Cause = tuple[str, str, str]
_DISK: tuple[_Cause, ...] = (
    (
        r"no space left|disk quota|errno 28\b|errno 122\b",
        "the disk is full",
        f"free space, {_AGAIN}",
    ),
    (
        r"file too large|errno 27\b",
        "a file may not grow that large here",
        f"raise the limit (ulimit -f), {_AGAIN}",
    ),
    (
        r"read-?only file ?system|errno 30\b",
        "the place is read-only",
        "choose another with --lake, or mount it for writing",
    ),
    (
        r"not a ?directory|file exists|errno 20\b",
        "a part of the path is a file, not a folder",
        "choose another place with --lake",
    ),
    (
        r"too many open files|errno 24\b",
        "too many open files",
        f"raise the limit (ulimit -n), {_AGAIN}",
    ),
    (
        r"permission denied|operation not permitted|errno 13\b|errno 1\b",
        "permission is denied",
        "choose another place with --lake, or have it permitted",
    ),
)
_NETWORK: tuple[_Cause, ...] = (
    (
        r"nosuchbucket|bucket does not exist",
        "there is no such bucket",
        "create it, or correct the name in --lake",
    ),
    (
        r"access ?denied|forbidden|unauthorized|invalidaccesskeyid|access key id|"
        r"signaturedoesnotmatch|expiredtoken|unauthenticated|credentials|"
        r"(instance|credential) metadata",
        "the object store refuses the credentials, or there are none",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --storage-option",
    ),
    (
        r"error sending request|connect|dns error|name or service|timed out|timeout|unreachable",
        "the object store does not answer",
        f"check the network and AWS_ENDPOINT_URL, {_AGAIN}",
    ),
)
_PARQUET = re.compile(r"""['"]?((?:file://|\w+:/)?/?[^'"\s]*\.parquet)""")
_TORN = re.compile(
    r"no magic bytes|magic bytes not found|too small to be a parquet|parquet file size is 0|"
    r"no such file|no files found|not found|cannot open|could not open|thrift|invalid parquet|"
    r"decompress|corrupt|unexpected end|end of stream|file size|could not read|failed to read|"
    r"don't know what",
    re.IGNORECASE,
)
_LOG = re.compile(
    r"_delta_log|log segment|invalid json|commit file|metadata action|checkpoint", re.IGNORECASE
)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m|↳")


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise a foreign exception of the block as a `LakeError` that names the place.

    Args:
        place: Table, file or address that the block works on.

    Raises:
        StorageError: the disk or the object store refuses.
        DamagedFile: a file of the lake is not what the log says.
        SchemaError: a table's log cannot be read.
    """
    try:
        yield
    except _foreign() as exc:
        raise translate(exc, place) from exc


def query_error(exc: BaseException, name: str = "") -> LakeError:
    """Return what DuckDB's refusal of a statement means: the statement is wrong, or a file is."""
    said = str(exc)
    if damaged(said) or _cause(said, _DISK):
        return translate(exc)
    return QueryError(f"{name}: {said}" if name else said)


def is_foreign(exc: BaseException) -> bool:
    """Whether an exception comes from a disk, an object store, Delta, Arrow or DuckDB."""
    return isinstance(exc, _foreign())


def translate(exc: BaseException, place: str = "") -> LakeError:
    """Return the `LakeError` that says what a foreign exception means."""
    said = " ".join(_ESCAPES.sub(" ", str(exc)).split())
    where = place or str(getattr(exc, "filename", "") or "")
    prefix = f"{where}: " if where else ""
    if found := _cause(said, _DISK):
        return StorageError(f"{prefix}{found[1]}; {found[2]} ({_short(said)})")
    torn = where.endswith(".parquet") and _TORN.search(said)
    if (file := where if torn else damaged(said)) is not None:
        return DamagedFile(f"{file}: {_DAMAGED} ({_short(said)})")
    if found := _cause(said, _NETWORK):
        return StorageError(f"{prefix}{found[1]}; {found[2]} ({_short(said)})")
    if _LOG.search(said):
        return SchemaError(f"{prefix}the table's log cannot be read: {_short(said)}")
    return StorageError(f"{prefix}{_short(said) or type(exc).__name__}")


def damaged(said: str) -> str | None:
    """Return the Parquet file that a reader's message calls unreadable or missing."""
    said = " ".join(said.split("LINE 1:")[0].split())
    found = _PARQUET.search(said)
    return found[1] if found and _TORN.search(said) else None


def _cause(said: str, causes: tuple[_Cause, ...]) -> _Cause | None:
    return next((c for c in causes if re.search(c[0], said, re.IGNORECASE)), None)


def _foreign() -> tuple[type[BaseException], ...]:
    """Return what loaded libraries raise for such things; what is not loaded cannot raise."""
    kinds: list[type[BaseException]] = [OSError]
    for module, names in (
        ("deltalake.exceptions", ("DeltaError",)),
        ("pyarrow", ("ArrowInvalid", "ArrowMemoryError")),
        ("duckdb", ("OperationalError", "InvalidInputException", "FatalException")),
        ("botocore.exceptions", ("BotoCoreError", "ClientError")),
    ):
        if module in sys.modules:
            kinds += [getattr(sys.modules[module], name) for name in names]
    return tuple(kinds)


def _short(said: str) -> str:
    said = said.split(" LINE 1:")[0]
    return said if len(said) <= 300 else said[:299] + "…"
