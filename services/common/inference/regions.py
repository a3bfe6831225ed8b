"""Shared memory between us and a Triton server on the same machine: pictures go in, answers come out, nothing is copied
through gRPC.

A region belongs to one request at a time. One whose request was given up rests, because the server may still write
into it; meanwhile others serve, and when none is free the request goes without.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from services.common.arrays import Tensor
from services.common.errors import NoSpace
from services.common.inference.models import VARIABLE, Model, TensorContract

_FOLDER = Path("/dev/shm")
_ALIGNMENT = 64


class Region:
    """One stretch of shared memory with a place for every input and output of a full batch."""

    def __init__(self, model: Model) -> None:
        self.name = f"masquerade-{secrets.token_hex(8)}"
        self.key = f"/{self.name}"
        self.is_registered = False
        self.offsets: dict[str, int] = {}
        end = 0
        for tensor in (*model.inputs, *model.outputs):
            self.offsets[tensor.name] = end
            size = item_bytes(tensor) * model.max_batch
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        self.nbytes = end
        self._memory = _allocate(_FOLDER / self.name, end)

    def write(self, inputs: Mapping[str, Tensor]) -> None:
        """Copy the inputs to their places."""
        for name, array in inputs.items():
            place = np.ndarray(array.shape, array.dtype, self._memory, self.offsets[name])
            place[...] = array

    def read(self, tensor: TensorContract, length: int) -> Tensor:
        """A copy of an output: the place belongs to the next request."""
        shape = (length, *tensor.shape)
        return np.ndarray(shape, tensor.dtype, self._memory, self.offsets[tensor.name]).copy()

    def remove(self) -> None:
        """Give the memory back; a server that has it registered keeps it until it lets go itself."""
        (_FOLDER / self.name).unlink(missing_ok=True)
        self._memory.close()


class Regions:
    """The regions of one model; at most `most` exist."""

    def __init__(self, model: Model, *, most: int, rest_s: float) -> None:
        self._model = model
        self._most = most
        self._rest_s = rest_s
        self._all: list[Region] = []
        self._free: list[Region] = []

    def take(self) -> Region | None:
        """A region that nobody uses; None where there is none."""
        if self._free:
            return self._free.pop()
        if len(self._all) < self._most:
            self._all.append(Region(self._model))
            return self._all[-1]
        return None

    def give_back(self, region: Region) -> None:
        """Its request was answered. A region that comes back after `remove` is gone already."""
        if region in self._all:
            self._free.append(region)

    def rest(self, region: Region) -> None:
        """Its request was given up: the server may write into it until its own time is over."""
        asyncio.get_running_loop().call_later(self._rest_s, self.give_back, region)

    def forget_registrations(self) -> None:
        """The server was started anew and knows none."""
        for region in self._all:
            region.is_registered = False

    def registered(self) -> list[Region]:
        """Those that the server has to be told to let go of."""
        return [region for region in self._all if region.is_registered]

    def remove(self) -> None:
        """Give all memory back."""
        for region in self._all:
            region.remove()
        self._all.clear()
        self._free.clear()


def can_be_shared(model: Model) -> bool:
    """Whether the sizes of a full batch are known beforehand."""
    return model.max_batch > 0 and all(VARIABLE not in tensor.shape for tensor in (*model.inputs, *model.outputs))


def item_bytes(tensor: TensorContract) -> int:
    """Bytes of one item of a tensor whose shape is fixed."""
    return int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize


def _allocate(path: Path, nbytes: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        # All of it now: memory that is promised and not there would end this process with SIGBUS at its first use.
        os.posix_fallocate(descriptor, 0, nbytes)
        return mmap.mmap(descriptor, nbytes)
    except OSError as problem:
        path.unlink(missing_ok=True)
        if problem.errno == errno.ENOSPC:
            raise NoSpace(path=_FOLDER, needed_bytes=nbytes) from problem
        raise
    finally:
        os.close(descriptor)
