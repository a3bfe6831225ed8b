"""Proof of what went into the encoder: a digest a frame, and on request the planes themselves.

Encoded bytes prove nothing (x264 with B-frames was seen to differ on a busy machine), so runs are compared by these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import xxhash

from services.common.planes import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.common.planes import Planes

DIGEST_BYTES = 16


def running_digest(digests: Iterable[bytes]) -> str:
    """Hex xxh3-128 over the frames' digests in order: it does not depend on how a video was split."""
    running = xxhash.xxh3_128()
    for one in digests:
        running.update(one)
    return str(running.hexdigest())


def split_digests(data: bytes) -> list[bytes]:
    """The digests of a file in which they stand behind one another."""
    if len(data) % DIGEST_BYTES:
        raise ValueError(f"{len(data)} bytes are not a whole number of {DIGEST_BYTES}-byte digests")
    return [data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)]


class PlaneProof:
    """Digests of frames in order; `dump` also takes the planes, I420 packed, one frame behind the other."""

    def __init__(self, dump: BinaryIO | None = None) -> None:
        self._digests: list[bytes] = []
        self._dump = dump

    def add(self, planes: Planes) -> None:
        """Take note of one frame."""
        self._digests.append(digest(planes))
        if self._dump is not None:
            for plane in (planes.y, planes.u, planes.v):
                self._dump.write(plane.tobytes())

    def data(self) -> bytes:
        """All digests, one behind the other."""
        return b"".join(self._digests)

    def running(self) -> str:
        """One digest of all."""
        return running_digest(self._digests)
