"""Arrays to messages and back: the only place that believes, or does not believe, what a message says of its pixels.

Reading looks at every field before it is used: a message of random bytes gives `FrameBatchInvalid`, `LeaseExpired` or
`LaneRefused`, and never an array over memory that was not meant. Sizes are computed with Python's integers, which do
not overflow, and compared with what is there before an array is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from masquerade.v1 import frames_pb2 as pb
from services.common.colour import FULL, LIMITED, LUMA_WEIGHTS, ColourTags
from services.common.errors import FrameBatchInvalid
from services.common.lanes.pictures import (
    LONGEST_SIDE,
    Frames,
    Picture,
    PixelFormat,
    Shape,
    lay_out,
    read_picture,
    write_picture,
)
from services.common.lanes.region import SlotRef
from services.common.lanes.registry import REGIONS, Registry

INLINE_CAP: Final = 4 * 1024 * 1024
"""Most bytes of pixels in one message. A 25 MB message was seen to hold an event loop for 450 ms, health checks and
all; 4 MiB cost about 25."""

MOST_FRAMES: Final = 256
"""Frames in a batch, unless the reader allows fewer."""

MOST_IMAGES: Final = 4096
"""Images in a set: the faces of a crowd in a batch."""


def colour_message(colour: ColourTags) -> pb.ColourTags:
    """Tags as a message."""
    return pb.ColourTags(matrix=colour.matrix, range=colour.range, primaries=colour.primaries, transfer=colour.transfer)


def read_colour(message: pb.ColourTags) -> ColourTags:
    """Resolved tags that we can compute with, from a message.

    Raises:
        FrameBatchInvalid: the matrix or the range is not one of those.
    """
    if message.matrix not in LUMA_WEIGHTS or message.range not in (LIMITED, FULL):
        raise FrameBatchInvalid(problem=f"matrix {message.matrix} with range {message.range} is not resolved colour")
    return ColourTags(message.matrix, message.range, message.primaries, message.transfer)


def lease_message(ref: SlotRef) -> pb.SlotLease:
    """The name of a slot as a message."""
    return pb.SlotLease(region=ref.region, offset=ref.offset, size_bytes=ref.nbytes, generation=ref.generation)


def read_lease(message: pb.SlotLease) -> SlotRef:
    """The name of a slot from a message; not yet looked at, see `Region.borrow`."""
    return SlotRef(message.region, message.offset, message.size_bytes, message.generation)


def read_shape(message: pb.Image | pb.FrameBatch) -> Shape:
    """Size and format of a picture, possible ones.

    Raises:
        FrameBatchInvalid: they are not.
    """
    width, height = message.width, message.height
    try:
        shape = Shape(width, height, PixelFormat(message.format))
    except ValueError as error:
        raise FrameBatchInvalid(problem=f"{message.format} is not a pixel format") from error
    if (width == 0) != (height == 0) or max(width, height) > LONGEST_SIDE:
        raise FrameBatchInvalid(problem=f"a picture cannot be {width}x{height}")
    if shape.format is PixelFormat.I420 and (width % 2 or height % 2 or not width):
        raise FrameBatchInvalid(problem=f"planes of 4:2:0 cannot be {width}x{height}")
    return shape


@contextmanager
def borrow_payload(message: pb.Payload, nbytes: int, *, regions: Registry = REGIONS) -> Iterator[memoryview]:
    """The bytes of a payload, at least `nbytes` of them, for as long as the block lasts.

    Raises:
        FrameBatchInvalid: there are fewer, or more inline than allowed.
        LaneRefused: the region is not one that we see.
        LeaseExpired: the slot is not lent, or was taken back during the block.
    """
    place = message.WhichOneof("place")
    if place == "slot":
        ref = read_lease(message.slot)
        if ref.nbytes < nbytes:
            raise FrameBatchInvalid(problem=f"{nbytes} bytes of pixels cannot lie in a slot of {ref.nbytes}")
        with regions.find(ref.region).borrow(ref) as buffer:
            yield buffer
    elif place == "inline":
        # Every access to a bytes field copies it: once is enough.
        yield memoryview(_inline(message.inline, nbytes))
    elif nbytes:
        raise FrameBatchInvalid(problem=f"{nbytes} bytes of pixels are announced and none are there")
    else:
        yield memoryview(b"")


@contextmanager
def borrow_frames(
    message: pb.FrameBatch, *, at_most: int = MOST_FRAMES, regions: Registry = REGIONS
) -> Iterator[Frames]:
    """The frames of a batch as arrays on its payload, for as long as the block lasts; read-only.

    Raises:
        FrameBatchInvalid: the message contradicts itself, or holds no frame or more than `at_most`.
        LaneRefused: its memory is not memory that we see.
        LeaseExpired: its memory was taken back, now or during the block.
    """
    shape, colour = read_batch(message, at_most=at_most)
    with borrow_payload(message.payload, len(message.pts) * shape.nbytes, regions=regions) as buffer:
        yield frames_in(buffer, message, shape, colour)


@contextmanager
def borrow_pictures(
    message: pb.ImageSet, *, at_most: int = MOST_IMAGES, regions: Registry = REGIONS
) -> Iterator[list[Picture]]:
    """The RGB and grey pictures of a set as arrays on its payload, for as long as the block lasts; read-only.

    Raises:
        FrameBatchInvalid: the message contradicts itself, holds planes, or more pictures than `at_most`.
        LaneRefused: its memory is not memory that we see.
        LeaseExpired: its memory was taken back, now or during the block.
    """
    shapes, needed = read_images(message.images, at_most=at_most)
    if any(shape.format is PixelFormat.I420 for shape in shapes):
        raise FrameBatchInvalid(problem="a set of images cannot hold planes: their colour is not named")
    with borrow_payload(message.payload, needed, regions=regions) as buffer:
        yield [read_picture(buffer, shape, at.offset) for shape, at in zip(shapes, message.images, strict=True)]


def read_batch(message: pb.FrameBatch, *, at_most: int = MOST_FRAMES) -> tuple[Shape, ColourTags | None]:
    """What each frame of a batch is, all fields but the payload checked.

    Raises:
        FrameBatchInvalid: a field is impossible.
    """
    count = len(message.pts)
    if not 1 <= count <= at_most:
        raise FrameBatchInvalid(problem=f"a batch holds 1 to {at_most} frames, not {count}")
    if message.first_index < 0:
        raise FrameBatchInvalid(problem=f"frame {message.first_index} cannot be")
    shape = read_shape(message)
    if not shape.nbytes:
        raise FrameBatchInvalid(problem="frames without pixels")
    return shape, read_colour(message.colour) if shape.format is PixelFormat.I420 else None


def read_images(images: Sequence[pb.Image], *, at_most: int = MOST_IMAGES) -> tuple[list[Shape], int]:
    """What each image is, and how many bytes their payload must have.

    Raises:
        FrameBatchInvalid: a field is impossible, or there are more than `at_most`.
    """
    if len(images) > at_most:
        raise FrameBatchInvalid(problem=f"a set holds at most {at_most} images, not {len(images)}")
    shapes = [read_shape(image) for image in images]
    needed = max((at.offset + shape.nbytes for at, shape in zip(images, shapes, strict=True)), default=0)
    return shapes, needed


def frames_in(buffer: memoryview, message: pb.FrameBatch, shape: Shape, colour: ColourTags | None) -> Frames:
    """A checked batch as arrays on its bytes."""
    count = len(message.pts)
    samples = np.frombuffer(buffer, np.uint8, count=count * shape.nbytes)
    sides: tuple[int, ...] = (shape.height, shape.width, 3)[: 3 if shape.format is PixelFormat.RGB24 else 2]
    if shape.format is PixelFormat.I420:
        sides = (shape.nbytes,)
    return Frames(message.first_index, tuple(message.pts), samples.reshape(count, *sides), shape, colour)


def batch_message(frames: Frames, payload: pb.Payload) -> pb.FrameBatch:
    """A batch whose bytes are, or will be, in `payload`."""
    return pb.FrameBatch(
        first_index=frames.first_index,
        pts=frames.pts,
        width=frames.shape.width,
        height=frames.shape.height,
        format=_format_name(frames.shape),
        colour=None if frames.colour is None else colour_message(frames.colour),
        payload=payload,
    )


def images_message(shapes: Sequence[Shape], offsets: Sequence[int], payload: pb.Payload) -> pb.ImageSet:
    """A set whose bytes are, or will be, in `payload`."""
    return pb.ImageSet(images=image_messages(shapes, offsets), payload=payload)


def image_messages(shapes: Sequence[Shape], offsets: Sequence[int]) -> list[pb.Image]:
    """Where each picture of a payload lies."""
    return [
        pb.Image(width=s.width, height=s.height, format=_format_name(s), offset=offset)
        for s, offset in zip(shapes, offsets, strict=True)
    ]


def place_frames(frames: Frames, lease: pb.SlotLease | None = None, *, regions: Registry = REGIONS) -> pb.FrameBatch:
    """An answer of frames, written into the caller's slot if one was lent, else inline.

    Raises:
        FrameBatchInvalid: neither the slot nor a message can hold them.
        LaneRefused: the slot is not in memory that we see.
        LeaseExpired: the slot is not lent any more.
    """
    with _writing(frames.nbytes, lease, regions) as (buffer, payload):
        write_frames(frames, buffer)
        _keep_inline(buffer, payload)
    return batch_message(frames, payload)


def place_pictures(
    pictures: Sequence[Picture], lease: pb.SlotLease | None = None, *, regions: Registry = REGIONS
) -> pb.ImageSet:
    """An answer of pictures, written into the caller's slot if one was lent, else inline.

    Raises:
        FrameBatchInvalid: neither the slot nor a message can hold them.
        LaneRefused: the slot is not in memory that we see.
        LeaseExpired: the slot is not lent any more.
    """
    shapes = [Shape.of(picture) for picture in pictures]
    offsets, nbytes = lay_out(shapes)
    with _writing(nbytes, lease, regions) as (buffer, payload):
        write_pictures(pictures, offsets, buffer)
        _keep_inline(buffer, payload)
    return images_message(shapes, offsets, payload)


def write_frames(frames: Frames, out: memoryview) -> None:
    """All frames to the beginning of `out`, without padding."""
    np.copyto(np.frombuffer(out, np.uint8, count=frames.nbytes).reshape(frames.pixels.shape), frames.pixels)


def write_pictures(pictures: Sequence[Picture], offsets: Sequence[int], out: memoryview) -> None:
    """Each picture to its place in `out`."""
    for picture, offset in zip(pictures, offsets, strict=True):
        write_picture(picture, out[offset:])


def _inline(data: bytes, nbytes: int) -> bytes:
    if len(data) > INLINE_CAP:
        raise FrameBatchInvalid(problem=f"{len(data)} bytes inline, at most {INLINE_CAP}")
    if len(data) < nbytes:
        raise FrameBatchInvalid(problem=f"{nbytes} bytes of pixels are announced and {len(data)} are there")
    return data


@contextmanager
def _writing(nbytes: int, lease: pb.SlotLease | None, regions: Registry) -> Iterator[tuple[memoryview, pb.Payload]]:
    """Memory to write an answer into, and the payload that will name it."""
    if lease is not None and lease.region and lease.size_bytes >= nbytes > 0:
        ref = read_lease(lease)
        used = SlotRef(ref.region, ref.offset, nbytes, ref.generation)
        with regions.find(ref.region).borrow(ref, writable=True) as buffer:
            yield buffer, pb.Payload(slot=lease_message(used))
        return
    if nbytes > INLINE_CAP:
        lent = lease.size_bytes if lease is not None else 0
        raise FrameBatchInvalid(problem=f"an answer of {nbytes} bytes fits neither a slot of {lent} nor a message")
    yield memoryview(bytearray(nbytes)), pb.Payload()


def _keep_inline(buffer: memoryview, payload: pb.Payload) -> None:
    """Put what was written into the message, unless it lies in a slot."""
    if not payload.HasField("slot"):
        payload.inline = bytes(buffer)


def _format_name(shape: Shape) -> str:
    return f"PIXEL_FORMAT_{shape.format.name}"
