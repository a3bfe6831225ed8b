"""Where rendered planes go: the encoder, and the proof of what it was given."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import av

from services.common.errors import EncoderFailed, NoSpace
from services.common.planes import Planes
from services.compositor.encoding import EncodeSettings, SegmentEncoder, Shape
from services.compositor.proofs import PlaneProof

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


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
            with self._named_errors():
                if self.proof is not None:
                    self.proof.add(planes)
                self._encoder.add(planes)

    def finish(self) -> None:
        """Write all that is held and close the files."""
        with self._lock:
            self._is_open = False
            with self._named_errors():
                self._encoder.finish()
                self._close_dump()

    def __enter__(self) -> SegmentSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                # On a full disk its end cannot be written either. What is given up needs none, and says why already.
                with contextlib.suppress(av.error.FFmpegError):
                    self._encoder.abandon()
            with contextlib.suppress(OSError):
                self._close_dump()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            if error.errno in _FULL:
                raise NoSpace(path=str(self.path.parent)) from error
            if not isinstance(error, av.error.FFmpegError):
                raise
            raise EncoderFailed(encoder=self._name, detail=str(error)) from error

    def _close_dump(self) -> None:
        dump, self._dump = self._dump, None
        if dump is not None:
            dump.close()
