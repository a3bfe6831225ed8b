"""Columnar files: named arrays in an uncompressed npz whose bytes depend on nothing but the arrays.

`numpy.load` opens them, but this reader trusts nothing: entries must be the ones asked for, stored without compression
(so that no file can unfold into more memory than it has bytes), of the dtype and shape that the format says, and never
pickled objects.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold: a file written tomorrow has the same bytes."""

Column: TypeAlias = NDArray[Any]


class ColumnsError(ValueError):
    """The bytes are not the columnar file that they should be."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a column must look like: dtype and shape, where a letter is a length shared by all columns of the file."""

    dtype: str
    axes: tuple[int | str, ...]


def write_columns(columns: Mapping[str, Column], out: IO[bytes] | None = None) -> bytes:
    """Write arrays in the order given.

    Args:
        columns: name to array, C order is made where it is missing.
        out: a binary file to write into; without one the bytes are answered.

    Returns:
        The file's bytes, or none of them where `out` took them.
    """
    target: IO[bytes] = io.BytesIO() if out is None else out
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, column in columns.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(column), version=(1, 0), allow_pickle=False)
    return target.getvalue() if isinstance(target, io.BytesIO) and out is None else b""


def read_columns(
    source: bytes | IO[bytes], shapes: Mapping[str, Shape], *, without: Collection[str] = ()
) -> dict[str, Column]:
    """Read the columns that `shapes` names and nothing else.

    Args:
        source: the file's bytes, or a seekable binary file.
        shapes: what each column must be; the file must hold exactly these.
        without: columns that are not needed now: they must be there and are not read.

    Returns:
        Name to read-only array.

    Raises:
        ColumnsError: anything in the file is not as `shapes` says.
    """
    with _reading(source) as archive:
        found = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        if set(found) != set(shapes) or len(archive.infolist()) != len(shapes):
            raise ColumnsError(f"columns {sorted(found)[:16]}, expected {sorted(shapes)}")
        lengths: dict[str, int] = {}
        return {
            name: _read_column(archive, found[name], shape, lengths)
            for name, shape in shapes.items()
            if name not in without
        }


def column_names(source: bytes | IO[bytes]) -> tuple[str, ...]:
    """The names that a file's directory lists, for formats in which they depend on a count.

    Raises:
        ColumnsError: it is no columnar file.
    """
    with _reading(source) as archive:
        return tuple(entry.filename.removesuffix(".npy") for entry in archive.infolist())


@contextmanager
def _reading(source: bytes | IO[bytes]) -> Iterator[zipfile.ZipFile]:
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with zipfile.ZipFile(stream) as archive:
            yield archive
    except ColumnsError:
        raise
    # What zipfile raises on damaged directories is not one family: each of these was seen under fuzzing.
    except (
        zipfile.BadZipFile,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:
        raise ColumnsError(f"not a columnar file: {error}") from error


def _read_column(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, shape: Shape, lengths: dict[str, int]) -> Column:
    name = entry.filename
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise ColumnsError(f"{name} is compressed")
    with archive.open(entry) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ColumnsError(f"{name} has an unknown version")
        axes, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        _check_shape(name, axes, dtype, shape, lengths)
        nbytes = math.prod(axes) * dtype.itemsize
        # A header may promise more than the file holds: what is there is read, then compared.
        content = stream.read(min(nbytes, entry.file_size) + 1)
    if is_fortran or len(content) != nbytes:
        raise ColumnsError(f"{name} holds {len(content)} bytes, its header says {nbytes}")
    return np.frombuffer(content, dtype).reshape(axes)


def _check_shape(name: str, axes: tuple[int, ...], dtype: np.dtype[Any], shape: Shape, lengths: dict[str, int]) -> None:
    if dtype != np.dtype(shape.dtype) or len(axes) != len(shape.axes):
        raise ColumnsError(f"{name} is {dtype}{list(axes)}, expected {shape.dtype}{list(shape.axes)}")
    for length, expected in zip(axes, shape.axes, strict=True):
        wanted = expected if isinstance(expected, int) else lengths.setdefault(expected, length)
        if length != wanted:
            raise ColumnsError(f"{name} is {dtype}{list(axes)}, expected {shape.dtype}{list(shape.axes)}")
