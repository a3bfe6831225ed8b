"""Messages of pixels: what goes in comes out, and what makes no sense is an error with a name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masquerade.v1 import frames_pb2 as pb
from services.common.colour import ColourTags
from services.common.errors import FrameBatchInvalid, LaneRefused, LeaseExpired
from services.common.lanes import payload as wire
from services.common.lanes.pictures import Frames, Shape, lay_out
from services.common.lanes.region import PAGE_BYTES
from services.common.lanes.ring import Ring
from services.common.planes import Planes

TYPED = (FrameBatchInvalid, LeaseExpired, LaneRefused)


@pytest.fixture(scope="module")
def ring() -> Iterator[Ring]:
    ring = Ring(64 * PAGE_BYTES)
    yield ring
    ring.close()


def frames(count: int, *, first_index: int = 3, width: int = 6, height: int = 4) -> Frames:
    """Frames that can be told apart: each is filled with its number."""
    pixels = np.empty((count, height, width, 3), np.uint8)
    pixels[:] = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return Frames.of(pixels, first_index=first_index, pts=range(100, 100 + 40 * count, 40))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 32), width=st.integers(1, 70), height=st.integers(1, 50), shared=st.booleans())
def test_any_batch_answers_each_frame_once(ring: Ring, count: int, width: int, height: int, shared: bool) -> None:
    asked = frames(count, width=width, height=height)
    slot = ring.try_acquire(asked.nbytes) if shared else None
    lease = None if slot is None else wire.lease_message(slot.ref)
    message = pb.FrameBatch.FromString(wire.place_frames(asked, lease).SerializeToString())
    assert message.payload.WhichOneof("place") == ("slot" if shared else "inline")
    with wire.borrow_frames(message) as answered:
        assert (answered.first_index, answered.pts) == (asked.first_index, asked.pts)
        np.testing.assert_array_equal(answered.pixels, asked.pixels)
        assert not answered.pixels.flags.writeable
        del answered
    if slot is not None:
        slot.release()
        with pytest.raises(LeaseExpired), wire.borrow_frames(message):
            pytest.fail("read a slot after its lease")


def test_pictures_of_many_sizes_come_back_as_they_were(ring: Ring) -> None:
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, s, np.uint8) for s in ((3, 5, 3), (7, 2), (1, 1, 3), (0, 0, 3), (65, 64))]
    slot = ring.try_acquire(PAGE_BYTES)
    assert slot is not None
    with slot:
        for lease in (None, wire.lease_message(slot.ref)):
            message = wire.place_pictures(pictures, lease)
            assert all(image.offset % 64 == 0 for image in message.images)
            with wire.borrow_pictures(message) as back:
                for picture, again in zip(pictures, back, strict=True):
                    np.testing.assert_array_equal(picture, again)


def test_an_empty_set_needs_no_memory() -> None:
    with wire.borrow_pictures(wire.place_pictures([])) as pictures:
        assert pictures == []


def test_planes_travel_with_their_colour() -> None:
    colour = ColourTags(6, 2, 5, 6)
    samples = np.arange(2 * 36, dtype=np.uint8).reshape(2, 36)
    shape = Shape.of(Planes.view(samples[0], 6, 4, colour))
    with wire.borrow_frames(wire.place_frames(Frames(0, (0, 1), samples, shape, colour))) as batch:
        planes = batch.planes(1)
        assert planes.colour == colour
        np.testing.assert_array_equal(planes.y.ravel(), samples[1, :24])


def test_a_slot_too_small_is_not_written(ring: Ring) -> None:
    slot = ring.try_acquire(10)
    assert slot is not None
    with slot:
        slot.buffer[:] = bytes(10)
        message = wire.place_frames(frames(1), wire.lease_message(slot.ref))
        assert message.payload.WhichOneof("place") == "inline"
        assert bytes(slot.buffer) == bytes(10)


def test_what_fits_nowhere_is_an_error() -> None:
    large = Frames.of(np.zeros((1, 2000, 2000, 3), np.uint8), first_index=0, pts=[0])
    with pytest.raises(FrameBatchInvalid, match="fits neither"):
        wire.place_frames(large)
    inline = wire.batch_message(large, pb.Payload(inline=bytes(12_000_000)))
    with pytest.raises(FrameBatchInvalid, match="inline"), wire.borrow_frames(inline):
        pytest.fail("took more than the cap")


def test_a_callee_does_not_write_into_a_slot_that_was_taken_back(ring: Ring) -> None:
    slot = ring.try_acquire(PAGE_BYTES)
    assert slot is not None
    lease = wire.lease_message(slot.ref)
    slot.release()
    with pytest.raises(LeaseExpired):
        wire.place_frames(frames(1), lease)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"width": 0, "height": 0},
        {"width": 1 << 31, "height": 1 << 31},
        {"width": 7},
        {"format": 0},
        {"format": 99},
        {"format": 1},
        {"format": 1, "width": 5, "height": 3},
        {"first_index": -1},
        {"pts": []},
        {"pts": [0] * 300},
        {"pts": [0, 1, 2]},
        {"payload": pb.Payload()},
        {"payload": pb.Payload(inline=b"")},
        {"payload": pb.Payload(slot=pb.SlotLease(size_bytes=1))},
    ],
)
def test_a_batch_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    message = wire.place_frames(frames(2))
    for name, value in change.items():
        message.ClearField(name)
        changed = pb.FrameBatch(**{name: value})  # type: ignore[arg-type]
        message.MergeFrom(changed)
    with pytest.raises(FrameBatchInvalid), wire.borrow_frames(message):
        pytest.fail("believed it")


def test_memory_that_nobody_sees_is_refused() -> None:
    slot = pb.SlotLease(region="0" * 32, offset=1 << 63, size_bytes=1 << 63, generation=1)
    message = wire.batch_message(frames(2), pb.Payload(slot=slot))
    with pytest.raises(LaneRefused), wire.borrow_frames(message):
        pytest.fail("read it")


def test_an_image_beyond_its_payload_is_refused() -> None:
    message = wire.place_pictures([np.zeros((4, 4, 3), np.uint8)])
    for offset in (1, 48, (1 << 64) - 1):
        message.images[0].offset = offset
        with pytest.raises(FrameBatchInvalid), wire.borrow_pictures(message):
            pytest.fail("read beyond the end")
    with pytest.raises(FrameBatchInvalid), wire.borrow_pictures(message, at_most=0):
        pytest.fail("took too many")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_batch_survives_fuzzed_bytes(ring: Ring, data: st.DataObject) -> None:
    """Bytes of a good message, some of them changed: an answer or a typed error, never a crash or foreign memory."""
    slot = ring.try_acquire(1000)
    assert slot is not None
    with slot:
        # What is drawn must not depend on where the slot happens to lie, which changes the length of the bytes.
        lease = wire.lease_message(slot.ref) if data.draw(st.booleans()) else None
        sets = data.draw(st.booleans())
        asked = frames(2)
        good = wire.place_pictures(list(asked.pixels), lease) if sets else wire.place_frames(asked, lease)
        encoded = bytearray(good.SerializeToString())
        for at, value in data.draw(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6)):
            encoded[at % len(encoded)] = value
        try:
            message = type(good).FromString(bytes(encoded[: len(encoded) * data.draw(st.integers(0, 64)) // 64]))
        except Exception:  # noqa: BLE001 - protobuf's own refusal; gRPC answers it before we are asked
            return
        try:
            if isinstance(message, pb.FrameBatch):
                with wire.borrow_frames(message) as batch:
                    assert batch.pixels.nbytes == batch.nbytes
            else:
                with wire.borrow_pictures(message) as pictures:
                    assert len(pictures) == len(message.images)
        except TYPED:
            return


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=10))
def test_pictures_are_laid_out_aligned_and_apart(sizes: list[tuple[int, int]]) -> None:
    shapes = [Shape.of(np.empty((h, w), np.uint8)) for w, h in sizes]
    offsets, end = lay_out(shapes)
    for offset, shape, following in zip(offsets, shapes, [*offsets[1:], end], strict=True):
        assert offset % 64 == 0
        assert offset + shape.nbytes <= following
