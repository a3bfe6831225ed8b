"""Where rendered planes go: the encoder, and the proof of what it was given."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import av

from services.common.errors import EncoderFailed
from services.common.planes import Planes
from services.compositor.encoding import EncodeSettings, SegmentEncoder, Shape
from services.compositor.proofs import PlaneProof


class SegmentSink:
    """One segment's file in a folder of its own, with digests or the planes themselves beside it if asked.

    Leaving the block before `finish` gives the segment up; a frame that is being encoded in another thread then is
    waited for.
    """

    def __init__(self, folder: Path, shape: Shape, settings: EncodeSettings, *, digests: bool, dump: bool) -> None:
        self.path = folder / "segment.mp4"
        self.dump_path = folder / "planes.i420" if dump else None
        self._dump: BinaryIO | None = self.dump_path.open("wb") if self.dump_path is not None else None
        self.proof = PlaneProof(self._dump) if digests or dump else None
        self._name = settings.encoder()
        self._lock = threading.Lock()
        self._is_open = True
        self._encoder = SegmentEncoder(self.path, shape, settings)

    @property
    def frames(self) -> int:
        """Frames taken so far."""
        return self._encoder.frames

    def take(self, planes: Planes | None) -> None:
        """Encode the next frame."""
        if planes is None:
            raise EncoderFailed(encoder=self._name, detail="a frame without planes")
        with self._lock:
            if not self._is_open:
                return
            if self.proof is not None:
                self.proof.add(planes)
            try:
                self._encoder.add(planes)
            except av.error.FFmpegError as error:
                raise EncoderFailed(encoder=self._name, detail=str(error)) from error

    def finish(self) -> None:
        """Write all that is held and close the files."""
        with self._lock:
            self._is_open = False
            try:
                self._encoder.finish()
            except av.error.FFmpegError as error:
                raise EncoderFailed(encoder=self._name, detail=str(error)) from error
            self._close_dump()

    def __enter__(self) -> SegmentSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._encoder.abandon()
            self._close_dump()

    def _close_dump(self) -> None:
        if self._dump is not None:
            self._dump.close()
            self._dump = None
