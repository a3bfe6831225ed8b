"""The owner's side of shared memory: who gets which pages, and when they are free again.

A ring hands out contiguous slots, first come first served, bounded by its bytes. The conductor of a stage owns one; its
peers only ever borrow. So whatever a peer does, dying included, the memory comes back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from services.common.errors import LeaseExpired, RingFull
from services.common.lanes.region import PAGE_BYTES, Region, SlotRef, sweep
from services.common.lanes.registry import REGIONS

Usage: TypeAlias = Callable[[int, int], None]
"""Told used and total bytes after every change; must not block."""


class Slot:
    """Memory that was acquired: until `release` it belongs to whoever holds this, and may be lent to a peer."""

    __slots__ = ("_pages", "_ring", "ref")

    def __init__(self, ring: Ring, ref: SlotRef, pages: range) -> None:
        self._ring: Ring | None = ring
        self.ref = ref
        self._pages = pages

    @property
    def nbytes(self) -> int:
        """Bytes that were asked for."""
        return self.ref.nbytes

    @property
    def is_released(self) -> bool:
        """Whether the memory was given back."""
        return self._ring is None

    @property
    def buffer(self) -> memoryview:
        """The bytes, writable. Do not keep it beyond `release`: the next slot may lie there.

        Raises:
            LeaseExpired: the slot was released.
        """
        if self._ring is None:
            raise LeaseExpired(slot=self.ref.offset, generation=self.ref.generation)
        return self._ring.region.memory(self.ref.offset, self.ref.nbytes)

    def release(self) -> None:
        """Give the memory back; again is allowed and does nothing. From any thread."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring._reclaim(self.ref, self._pages)

    def retire(self, quarantine_s: float) -> None:
        """End the lease now, but reuse the memory only after a while.

        For a slot whose writer may still be alive: a peer whose call was cancelled or timed out may be in the middle
        of a copy that it began before the lease ended.
        """
        ring, self._ring = self._ring, None
        if ring is not None:
            ring._quarantine(self.ref, self._pages, time.monotonic() + quarantine_s)

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


@dataclass(slots=True, eq=False)
class _Waiter:
    """Someone who waits for memory, in line."""

    nbytes: int
    loop: asyncio.AbstractEventLoop
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    slot: Slot | None = None


class Ring:
    """A bounded store of slots over one region. Acquire on an event loop; release from anywhere."""

    def __init__(
        self,
        nbytes: int,
        *,
        folder: Path | None = None,
        page_bytes: int = PAGE_BYTES,
        on_usage: Usage | None = None,
    ) -> None:
        """Make the region, allocated to the last page, and enter it into this process's registry.

        Args:
            nbytes: room for slots.
            folder: where containers share memory; None keeps it inside the process tree. Regions whose owners died
                there are swept first.
            page_bytes: grain of slots.
            on_usage: told used and total bytes whenever they change.

        Raises:
            NoSpace: there is not that much memory.
        """
        if folder is not None:
            sweep(folder)
        self.region = Region.create(nbytes, folder=folder, page_bytes=page_bytes)
        self._on_usage = on_usage
        self._lock = threading.Lock()
        self._taken = bytearray(self.region.pages)
        self._used_pages = 0
        self._generation = 0
        self._line: deque[_Waiter] = deque()
        self._quarantined: list[tuple[float, range]] = []
        self._is_closed = False
        REGIONS.register(self.region)
        self._tell()

    @property
    def total_bytes(self) -> int:
        """Room for slots."""
        return self.region.pages * self.region.page_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes in slots and in quarantine, in whole pages."""
        return self._used_pages * self.region.page_bytes

    def try_acquire(self, nbytes: int) -> Slot | None:
        """A slot if there is room at once and nobody waits for it, else None.

        Raises:
            RingFull: it can never fit.
        """
        self._refuse_impossible(nbytes)
        with self._lock:
            self._free_expired()
            slot = None if self._line else self._allocate(nbytes)
        self._tell()
        return slot

    async def acquire(self, nbytes: int, timeout: float | None = None) -> Slot:
        """A slot of at least one byte, waiting in line for it.

        Args:
            nbytes: length wanted.
            timeout: seconds to wait; None waits as long as the caller is not cancelled.

        Raises:
            RingFull: it can never fit, or did not become free in time.
        """
        slot = self.try_acquire(nbytes)
        if slot is not None:
            return slot
        waiter = _Waiter(nbytes, asyncio.get_running_loop())
        with self._lock:
            self._line.append(waiter)
            self._serve()
        try:
            async with asyncio.timeout(timeout):
                while not waiter.ready.is_set():
                    await self._wait_for(waiter)
        except TimeoutError as error:
            self._withdraw(waiter)
            raise RingFull(asked_bytes=nbytes, total_bytes=self.total_bytes) from error
        except BaseException:
            self._withdraw(waiter)
            raise
        if waiter.slot is None:
            raise RingFull(asked_bytes=nbytes, total_bytes=0, remedy="the ring was closed: the process is ending")
        self._tell()
        return waiter.slot

    def close(self) -> None:
        """Give everything up. Who still waits gets RingFull; slots that are held keep their bytes until let go."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            line, self._line = list(self._line), deque()
        for waiter in line:
            if not waiter.loop.is_closed():
                waiter.loop.call_soon_threadsafe(waiter.ready.set)
        REGIONS.forget(self.region.id)
        self.region.close()

    async def _wait_for(self, waiter: _Waiter) -> None:
        """Wait until the waiter was served, or until a quarantine ends and it can be tried again."""
        with self._lock:
            ends = min((until for until, _ in self._quarantined), default=None)
        pause = None if ends is None else max(0.0, ends - time.monotonic()) + 0.001
        try:
            async with asyncio.timeout(pause):
                await waiter.ready.wait()
        except TimeoutError:
            with self._lock:
                self._free_expired()
                self._serve()

    def _refuse_impossible(self, nbytes: int) -> None:
        if nbytes <= 0:
            raise ValueError(f"a slot of {nbytes} bytes cannot be")
        if nbytes > self.total_bytes or self._is_closed:
            raise RingFull(asked_bytes=nbytes, total_bytes=0 if self._is_closed else self.total_bytes)

    def _allocate(self, nbytes: int) -> Slot | None:
        """First fit. Held lock."""
        count = -(-nbytes // self.region.page_bytes)
        first = self._taken.find(bytes(count))
        if first < 0:
            return None
        pages = range(first, first + count)
        self._taken[first : first + count] = b"\x01" * count
        self._used_pages += count
        self._generation += 1
        offset = self.region.first_page + first * self.region.page_bytes
        self.region.lend(offset, nbytes=nbytes, generation=self._generation)
        return Slot(self, SlotRef(self.region.id, offset, nbytes, self._generation), pages)

    def _reclaim(self, ref: SlotRef, pages: range) -> None:
        """Take a released slot back."""
        with self._lock:
            if self._is_closed:
                return
            self.region.take_back(ref.offset)
            self._free(pages)
            self._free_expired()
            self._serve()
        self._tell()

    def _quarantine(self, ref: SlotRef, pages: range, until: float) -> None:
        """End a slot's lease and keep its pages aside until a moment of the monotonic clock."""
        with self._lock:
            if self._is_closed:
                return
            self.region.take_back(ref.offset)
            self._quarantined.append((until, pages))
            # Who waits must learn when the quarantine ends: let the first in line look again.
            if self._line:
                head = self._line[0]
                head.loop.call_soon_threadsafe(head.loop.call_later, until - time.monotonic() + 0.001, self._look_again)

    def _look_again(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._free_expired()
                self._serve()
        self._tell()

    def _free(self, pages: range) -> None:
        """Held lock."""
        self._taken[pages.start : pages.stop] = bytes(len(pages))
        self._used_pages -= len(pages)

    def _free_expired(self) -> None:
        """Held lock."""
        if not self._quarantined:
            return
        now = time.monotonic()
        for until, pages in self._quarantined:
            if until <= now:
                self._free(pages)
        self._quarantined = [(until, pages) for until, pages in self._quarantined if until > now]

    def _serve(self) -> None:
        """Give memory to those in line, in order; a large one at the head holds up the rest, or it would starve.

        Held lock.
        """
        while self._line:
            waiter = self._line[0]
            if waiter.loop.is_closed():
                # Nobody will ever come for it.
                self._line.popleft()
                continue
            waiter.slot = self._allocate(waiter.nbytes)
            if waiter.slot is None:
                return
            self._line.popleft()
            waiter.loop.call_soon_threadsafe(waiter.ready.set)

    def _withdraw(self, waiter: _Waiter) -> None:
        """Leave the line, and give back what was given in the very moment of leaving."""
        with self._lock:
            if waiter in self._line:
                self._line.remove(waiter)
                self._serve()
            slot, waiter.slot = waiter.slot, None
        if slot is not None:
            slot.release()

    def _tell(self) -> None:
        if self._on_usage is not None:
            self._on_usage(self.used_bytes, self.total_bytes)
