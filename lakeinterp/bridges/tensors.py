"""Safetensors files as memory maps: any slice of any type, read or written where it lies.

The package's own NumPy reader has no bfloat16, and its writer wants the whole file in memory. The
layout is that of https://github.com/huggingface/safetensors: eight bytes of length, a JSON header,
the tensors one after the other, little-endian.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lakeinterp.errors import ConfigError
from lakeinterp.lake.faults import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

DTYPES = {
    "BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8", "U8": "|u1", "I8": "|i1",
    "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8",
}  # fmt: skip
"""NumPy's name of each type; bfloat16 lies in unsigned integers of its width."""
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file."""

    dtype: str
    """As the header names it, for example `BF16`."""
    array: npt.NDArray[Any]
    """A map of the file; of bfloat16 its bits."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.array.shape

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return rows as numbers, in memory; bfloat16 as float32."""
        part = np.array(self.array[start:stop])
        return from_bfloat16(part) if self.dtype == "BF16" else part


def read(path: Path) -> dict[str, Stored]:
    """Return the tensors of a file by name; nothing but the header is read.

    Raises:
        ConfigError: the file is gone, torn, or of types that are not known.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
        start = 8 + int(data[:8].view("<u8")[0])
        if start > min(len(data), _LONGEST_HEADER):
            raise ValueError("its header is longer than the file")
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        return {name: _stored(data[start:], entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError(f"{path} is torn, or no safetensors file: {exc}") from exc


class Writer:
    """A file whose tensors are filled side by side, each from its start to its end."""

    def __init__(self, file: BinaryIO, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        header: dict[str, Any] = {}
        end = 0
        # The widest first, so that every tensor is aligned; the package orders them so as well.
        widths = {name: np.dtype(DTYPES[dtype]).itemsize for name, (dtype, _) in tensors.items()}
        for name in sorted(tensors, key=lambda name: (-widths[name], name)):
            dtype, shape = tensors[name]
            start, end = end, end + math.prod(shape) * widths[name]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._file, self._dtypes = file, {name: dtype for name, (dtype, _) in tensors.items()}
        base = file.write(len(text).to_bytes(8, "little") + text)
        self._next = {name: base + entry["data_offsets"][0] for name, entry in header.items()}
        self._end = {name: base + entry["data_offsets"][1] for name, entry in header.items()}

    def put(self, name: str, rows: npt.NDArray[Any]) -> None:
        """Append rows to a tensor; of bfloat16 their bits."""
        self._file.seek(self._next[name])
        self._next[name] += self._file.write(rows.astype(DTYPES[self._dtypes[name]]).tobytes())

    def check(self) -> None:
        """Refuse to end a file whose tensors are not filled exactly."""
        if self._next != self._end:
            raise ValueError("the tensors are not filled as their shapes say")


@contextmanager
def create(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> Iterator[Writer]:
    """Give a writer; the file appears at the end, whole.

    Args:
        path: The file; its folder is made.
        tensors: Type and shape of each tensor.

    Raises:
        StorageError: the disk refuses; nothing is left of the file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with translated(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                writer = Writer(file, tensors)
                yield writer
                writer.check()
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def from_bfloat16(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return what bits of bfloat16 stand for."""
    return (bits.astype("<u4") << 16).view("<f4")


def to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return the bits of finite values in bfloat16, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits >> np.uint32(16)).astype("<u2")


def _stored(data: npt.NDArray[Any], entry: Mapping[str, Any]) -> Stored:
    shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
    kind = np.dtype(DTYPES[entry["dtype"]])
    if not 0 <= start <= stop <= len(data) or stop - start != math.prod(shape) * kind.itemsize:
        raise ValueError("it is shorter than its header says")
    return Stored(entry["dtype"], data[start:stop].view(kind).reshape(shape))
