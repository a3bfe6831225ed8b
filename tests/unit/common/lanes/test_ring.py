"""The ring: who gets memory, when it is free again, and what a late reader sees."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import LaneRefused, LeaseExpired, NoSpace, RingFull
from services.common.lanes.region import PAGE_BYTES, Region, SlotRef, sweep
from services.common.lanes.registry import REGIONS, Registry
from services.common.lanes.ring import Ring, Slot


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring(8 * PAGE_BYTES)
    yield ring
    ring.close()


async def test_a_slot_is_aligned_and_holds_what_was_asked(ring: Ring) -> None:
    slot = await ring.acquire(PAGE_BYTES + 1)
    assert slot.ref.offset % 64 == 0
    assert len(slot.buffer) == slot.nbytes == PAGE_BYTES + 1
    assert ring.used_bytes == 2 * PAGE_BYTES
    slot.buffer[:] = b"\x05" * slot.nbytes
    with REGIONS.find(ring.region.id).borrow(slot.ref) as seen:
        assert bytes(seen) == b"\x05" * slot.nbytes
        assert seen.readonly
    slot.release()
    slot.release()
    assert ring.used_bytes == 0


async def test_a_slot_is_not_read_after_its_lease(ring: Ring) -> None:
    slot = await ring.acquire(100)
    stale = slot.ref
    slot.release()
    with pytest.raises(LeaseExpired):
        _ = slot.buffer
    with pytest.raises(LeaseExpired), ring.region.borrow(stale):
        pytest.fail("read a slot that is free")
    again = await ring.acquire(100)
    assert again.ref.offset == stale.offset
    with pytest.raises(LeaseExpired), ring.region.borrow(stale):
        pytest.fail("read another one's slot")


async def test_a_lease_that_ends_during_the_read_is_an_error(ring: Ring) -> None:
    slot = await ring.acquire(100)
    with pytest.raises(LeaseExpired), ring.region.borrow(slot.ref):
        slot.release()


@pytest.mark.parametrize("change", [{"offset": 1}, {"offset": -PAGE_BYTES}, {"offset": 1 << 63}, {"nbytes": 101}])
async def test_a_reference_that_is_a_little_wrong_is_refused(ring: Ring, change: dict[str, int]) -> None:
    slot = await ring.acquire(100)
    wrong = {"offset": slot.ref.offset, "nbytes": 100, "generation": slot.ref.generation} | change
    assert not ring.region.is_lent(SlotRef(ring.region.id, **wrong))
    assert not ring.region.is_lent(SlotRef("0" * 32, slot.ref.offset, 100, slot.ref.generation))
    assert ring.region.is_lent(SlotRef(ring.region.id, slot.ref.offset, 50, slot.ref.generation))


async def test_what_can_never_fit_is_refused_at_once(ring: Ring) -> None:
    with pytest.raises(RingFull) as refused:
        await ring.acquire(8 * PAGE_BYTES + 1)
    assert refused.value.fields == {"asked_bytes": str(8 * PAGE_BYTES + 1), "total_bytes": str(8 * PAGE_BYTES)}


async def test_who_waits_too_long_is_told_and_leaves_the_line(ring: Ring) -> None:
    held = await ring.acquire(8 * PAGE_BYTES)
    with pytest.raises(RingFull):
        await ring.acquire(1, timeout=0.01)
    held.release()
    assert ring.try_acquire(8 * PAGE_BYTES) is not None


async def test_memory_is_given_in_the_order_it_was_asked_for(ring: Ring) -> None:
    """A large one at the head is not overtaken by small ones that would fit: it would starve."""
    held = [await ring.acquire(4 * PAGE_BYTES), await ring.acquire(3 * PAGE_BYTES)]
    served: list[str] = []

    async def ask(name: str, pages: int) -> Slot:
        slot = await ring.acquire(pages * PAGE_BYTES)
        served.append(name)
        return slot

    large, small = asyncio.create_task(ask("large", 6)), asyncio.create_task(ask("small", 1))
    await asyncio.sleep(0.01)
    assert ring.try_acquire(1) is None
    assert served == []
    held[1].release()
    await asyncio.sleep(0.01)
    assert served == []
    held[0].release()
    await asyncio.gather(large, small)
    assert served == ["large", "small"]


async def test_a_cancelled_waiter_takes_nothing_with_it(ring: Ring) -> None:
    held = await ring.acquire(8 * PAGE_BYTES)
    waiting = asyncio.create_task(ring.acquire(8 * PAGE_BYTES))
    behind = asyncio.create_task(ring.acquire(1))
    await asyncio.sleep(0.01)
    # Served and cancelled in the same turn of the loop: the slot was already meant for it.
    held.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (await asyncio.wait_for(behind, 1)).release()
    assert ring.used_bytes == 0


async def test_memory_comes_back_from_another_thread(ring: Ring) -> None:
    held = await ring.acquire(8 * PAGE_BYTES)
    waiting = asyncio.create_task(ring.acquire(PAGE_BYTES))
    await asyncio.sleep(0)
    thread = threading.Thread(target=held.release)
    thread.start()
    (await asyncio.wait_for(waiting, 1)).release()
    thread.join()


async def test_a_retired_slot_rests_before_it_is_used_again(ring: Ring) -> None:
    slot = await ring.acquire(8 * PAGE_BYTES)
    ref = slot.ref
    slot.retire(0.05)
    assert not ring.region.is_lent(ref)
    assert ring.try_acquire(1) is None
    started = asyncio.get_running_loop().time()
    again = await ring.acquire(1, timeout=5)
    assert 0.03 < asyncio.get_running_loop().time() - started < 1
    again.release()
    assert ring.used_bytes == 0


async def test_a_waiter_in_line_gets_what_another_one_retires(ring: Ring) -> None:
    slot = await ring.acquire(8 * PAGE_BYTES)
    waiting = asyncio.create_task(ring.acquire(1, timeout=5))
    await asyncio.sleep(0.01)
    slot.retire(0.02)
    (await asyncio.wait_for(waiting, 1)).release()


async def test_a_closed_ring_lets_nobody_wait(ring: Ring) -> None:
    held = await ring.acquire(8 * PAGE_BYTES)
    kept = np.frombuffer(held.buffer, np.uint8)
    waiting = asyncio.create_task(ring.acquire(1))
    await asyncio.sleep(0.01)
    ring.close()
    ring.close()
    with pytest.raises(RingFull):
        await waiting
    with pytest.raises(RingFull):
        ring.try_acquire(1)
    with pytest.raises(LeaseExpired):
        _ = held.buffer
    held.release()
    assert kept[0] == 0
    with pytest.raises(LaneRefused):
        REGIONS.find(ring.region.id)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5 * PAGE_BYTES), st.booleans()), min_size=1, max_size=40))
def test_slots_never_overlap_and_all_memory_comes_back(steps: list[tuple[int, bool]]) -> None:
    seen: list[tuple[int, int]] = []
    ring = Ring(16 * PAGE_BYTES, on_usage=lambda used, total: seen.append((used, total)))
    held: dict[int, Slot] = {}
    try:
        for nbytes, drops in steps:
            if drops and held:
                held.pop(next(iter(held))).release()
            slot = ring.try_acquire(nbytes)
            if slot is None:
                continue
            mark = slot.ref.generation % 251
            slot.buffer[:] = bytes([mark]) * nbytes
            held[slot.ref.generation] = slot
            assert all(set(bytes(s.buffer)) == {g % 251} for g, s in held.items())
        assert len({slot.ref.offset for slot in held.values()}) == len(held)
        for slot in held.values():
            slot.release()
        assert ring.used_bytes == 0
        assert seen[-1] == (0, 16 * PAGE_BYTES)
        assert ring.try_acquire(16 * PAGE_BYTES) is not None
    finally:
        ring.close()


def test_a_file_in_a_shared_folder_is_the_same_memory_and_leaves_with_its_owner(tmp_path: Path) -> None:
    ring, elsewhere = Ring(2 * PAGE_BYTES, folder=tmp_path), Registry(tmp_path)
    slot = ring.try_acquire(10)
    assert slot is not None
    other = elsewhere.find(ring.region.id)
    with other.borrow(slot.ref, writable=True) as seen:
        seen[:] = b"0123456789"
    assert bytes(slot.buffer) == b"0123456789"
    assert (tmp_path / ring.region.id).stat().st_mode & 0o777 == 0o600
    with pytest.raises(LaneRefused):
        elsewhere.find("e" * 32)
    assert elsewhere.find(ring.region.id) is other, "its owner lives"
    ring.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LaneRefused):
        elsewhere.find("f" * 32)
    assert other.is_closed


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "", "A" * 32, "0" * 31, "0" * 32 + "\n", "/" + "0" * 31, "٠" * 32]
)
def test_a_name_that_is_no_id_is_never_looked_up(tmp_path: Path, name: str) -> None:
    with pytest.raises(LaneRefused):
        Registry(tmp_path).find(name)


@pytest.mark.parametrize("content", [b"", b"MASQLAN1", b"x" * 4096, b"MASQLAN1" + b"\xff" * 24 + b"\0" * 4064])
def test_a_file_that_is_no_region_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ("0" * 32)).write_bytes(content)
    with pytest.raises(LaneRefused):
        Registry(tmp_path).find("0" * 32)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    with_region = tmp_path / "other"
    with_region.mkdir()
    region = Region.create(1, folder=with_region)
    (tmp_path / region.id).symlink_to(with_region / region.id)
    with pytest.raises(LaneRefused):
        Registry(tmp_path).find(region.id)
    region.close()


def test_a_descriptor_opens_the_same_memory() -> None:
    ring = Ring(PAGE_BYTES)
    slot = ring.try_acquire(4)
    assert slot is not None
    child = Region.from_descriptor(ring.region.id, ring.region.fileno())
    with child.borrow(slot.ref, writable=True) as seen:
        seen[:] = b"abcd"
    assert bytes(slot.buffer) == b"abcd"
    child.close()
    ring.close()


def test_nobody_can_shorten_memory_under_a_reader() -> None:
    region = Region.create(PAGE_BYTES)
    with pytest.raises(PermissionError):
        os.ftruncate(region.fileno(), 0)
    region.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from services.common.errors import NoSpace
from services.common.lanes.ring import Ring
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    Ring(64 << 20, folder=Path(sys.argv[1]))
except NoSpace as error:
    print("typed", int(error.fields["needed_bytes"]) > 64 << 20)
"""


def test_a_full_ring_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    """More memory than there is ends at creation, and not with SIGBUS at the first write."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "typed True\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_full_mount_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        with pytest.raises(NoSpace):
            Ring(1 << 20, folder=tmp_path)
        assert list(tmp_path.iterdir()) == []
        Ring(PAGE_BYTES, folder=tmp_path).close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


HOLDER = """
import sys, time
from pathlib import Path
from services.common.lanes.ring import Ring
ring = Ring(8 << 20, folder=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
slot = ring.try_acquire(4 << 20)
slot.buffer[:] = bytes(4 << 20)
print(ring.region.id, flush=True)
time.sleep(60)
"""


def killed_holder(*arguments: str, mapped: list[str] | None = None) -> str:
    """Start a process that holds a ring, kill it, and give the id of its region; `mapped` gets its mappings."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        region_id = holder.stdout.readline().strip()
        if mapped is not None:
            mapped += Path(f"/proc/{holder.pid}/maps").read_text().splitlines()
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=10)
    return region_id


def test_a_killed_holder_leaves_nothing_in_shared_memory() -> None:
    # What it maps is looked at, not what is new in /dev/shm: tests that run beside this one put theirs there.
    mapped: list[str] = []
    assert killed_holder(mapped=mapped)
    assert any("memfd:masquerade-lane" in line for line in mapped)
    assert not any("/dev/shm/" in line for line in mapped)


def test_what_a_killed_owner_left_in_a_shared_folder_is_swept_and_the_living_are_not(tmp_path: Path) -> None:
    living = Ring(PAGE_BYTES, folder=tmp_path)
    dead = killed_holder(str(tmp_path))
    (tmp_path / "README").write_text("not ours")
    assert (tmp_path / dead).exists()
    assert sweep(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {living.region.id, "README"}
    living.close()
