"""One segment of frames to one small file: planes in, packets in decode order out.

The file is only a carrier. Its times are frame numbers at the video's mean rate; assembling gives every frame its real
time from the index (`timetable.py`). So variable rates need nothing special here and no rounding happens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from services.common.colour import ColourTags
    from services.common.media.index import MediaIndex
    from services.common.planes import Planes

# Rates are written into the H.264 headers as 32-bit numbers and are only the mean; the container holds the times.
LARGEST_RATE_DENOMINATOR = 60_060

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""x264's names of how much effort is made, the least first. `placebo` is left out: it costs days and shows nothing."""

# AVCodecContext.field_order
_PROGRESSIVE, _TOP_FIRST, _BOTTOM_FIRST = 1, 2, 3

# pict_type of a frame that must start a closed group.
_INTRA = 1


class Fields(Enum):
    """How the lines of a frame were taken."""

    PROGRESSIVE = "progressive"
    TOP_FIRST = "top first"
    BOTTOM_FIRST = "bottom first"


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """What an encoder is told. Part of a segment's key: other settings make other segments."""

    codec: Literal["h264", "vp9"] = "h264"
    preset: str = "veryfast"
    """x264's preset. For VP9 it is mapped to the `cpu-used` that costs about as much."""

    crf: int = 20
    """Constant quality, x264's scale; 0 is lossless. VP9's own scale reaches further: 12 is added there."""

    bf: int = 2
    """B-frames in a row. The reorder delay follows from it, see `delay`."""

    threads: int = 2
    """Pinned: x264's output depends on it, so the cores of a machine must not choose it."""

    keyint: int = 250
    """Most frames from one key frame to the next: seeking in the result goes in steps of this."""

    @property
    def is_lossless(self) -> bool:
        """Planes come back as they went in. For proofs: files are ten times larger."""
        return self.crf == 0

    @property
    def delay(self) -> int:
        """By how many frames decoding order runs ahead of showing order."""
        return min(self.bf, 2) if self.codec == "h264" else 0

    def encoder(self) -> Literal["libx264", "libvpx-vp9"]:
        """FFmpeg's name of the encoder."""
        return "libx264" if self.codec == "h264" else "libvpx-vp9"

    def options(self) -> dict[str, str]:
        """Private options of the encoder, as FFmpeg takes them."""
        if self.codec == "vp9":
            return self._vp9_options()
        pyramid = "normal" if self.bf > 1 else "none"
        return {
            "qp" if self.is_lossless else "crf": str(self.crf),
            "preset": self.preset,
            "bf": str(self.bf),
            "threads": str(self.threads),
            # Segments are joined by copying packets: no picture may look across a key frame.
            "x264-params": f"open-gop=0:keyint={self.keyint}:b-pyramid={pyramid}",
        }

    def _vp9_options(self) -> dict[str, str]:
        effort = {"ultrafast": "8", "superfast": "7", "veryfast": "6", "faster": "5", "fast": "4", "medium": "3"}
        quality = {"lossless": "1"} if self.is_lossless else {"crf": str(min(63, self.crf + 12)), "b": "0"}
        return quality | {
            "deadline": "good",
            "cpu-used": effort.get(self.preset, "2"),
            "threads": str(self.threads),
            "g": str(self.keyint),
        }


def settings_for(suffix: str, settings: EncodeSettings) -> EncodeSettings:
    """The codec that belongs in a file of this suffix: .webm takes VP9, all others H.264."""
    return replace(settings, codec="vp9" if suffix == ".webm" else "h264")


@dataclass(frozen=True, slots=True)
class Shape:
    """What all segments of one output have in common; it decides the headers, which must be equal in all."""

    width: int
    height: int
    colour: ColourTags
    rate: Fraction
    """Mean frames a second of the whole video."""

    sar: Fraction = Fraction(1)
    fields: Fields = Fields.PROGRESSIVE

    def __post_init__(self) -> None:
        if self.width % 2 or self.height % 2:
            raise ValueError(f"planes have even sides, not {self.width}x{self.height}")


def shape_of(index: MediaIndex) -> Shape:
    """The shape of a video's output: the same for every segment."""
    fields = Fields.PROGRESSIVE
    if index.is_interlaced:
        fields = Fields.TOP_FIRST if index.picture.top_field_first else Fields.BOTTOM_FIRST
    return Shape(index.width, index.height, index.colour, index.mean_rate, index.sar or Fraction(1), fields)


class SegmentEncoder:
    """Takes planes in order and leaves a file. Not for two threads at once; the calls may come from different ones."""

    def __init__(self, path: Path, shape: Shape, settings: EncodeSettings) -> None:
        self._shape = shape
        self._frames = 0
        self._rate = shape.rate.limit_denominator(LARGEST_RATE_DENOMINATOR)
        # The time base is the frame: the carrier's scale must hold it without rounding.
        scale = {"video_track_timescale": str(self._rate.numerator)}
        self._container: OutputContainer = av.open(str(path), "w", format="mp4", container_options=scale)
        self._stream = self._open_stream(settings)
        self._fields = _field_graph(shape, self._rate) if self._keeps_fields(settings) else None

    @staticmethod
    def _is_interlaceable(settings: EncodeSettings) -> bool:
        return settings.codec == "h264"

    def _keeps_fields(self, settings: EncodeSettings) -> bool:
        return self._shape.fields is not Fields.PROGRESSIVE and self._is_interlaceable(settings)

    def _open_stream(self, settings: EncodeSettings) -> VideoStream:
        options = settings.options()
        if self._keeps_fields(settings):
            options["flags"] = "+ildct+ilme"
            # The frames' own flags come too late for the first.
            options["x264-params"] += ":tff=1" if self._shape.fields is Fields.TOP_FIRST else ":bff=1"
        stream = self._container.add_stream(settings.encoder(), rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = self._shape.width, self._shape.height, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self._rate
        # PyAV's defaults (SLICE, as many threads as cores) cost 3.6 % in size and make bytes depend on the machine.
        context.thread_type = "FRAME"
        context.thread_count = settings.threads
        colour = self._shape.colour
        context.color_range, context.colorspace = colour.range, colour.matrix
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.sample_aspect_ratio = self._shape.sar
        if self._keeps_fields(settings):
            context.field_order = _TOP_FIRST if self._shape.fields is Fields.TOP_FIRST else _BOTTOM_FIRST
        return stream

    @property
    def frames(self) -> int:
        """Frames taken so far."""
        return self._frames

    def add(self, planes: Planes) -> None:
        """Encode one frame. The planes are read before this returns; they may be used again at once."""
        shape = self._shape
        if (planes.width, planes.height) != (shape.width, shape.height):
            # PyAV would rescale it without a word.
            raise ValueError(f"a frame of {planes.width}x{planes.height} in a video of {shape.width}x{shape.height}")
        frame = _video_frame(planes)
        frame.pts, frame.time_base, frame.duration = self._frames, 1 / self._rate, 1
        frame.color_range, frame.colorspace = shape.colour.range, shape.colour.matrix
        if self._fields is not None:
            self._fields.push(frame)
            frame = self._fields.pull()  # type: ignore[assignment]
        if self._frames == 0:
            frame.pict_type = _INTRA
        self._container.mux(self._stream.encode(frame))
        self._frames += 1

    def finish(self) -> int:
        """Write what the encoder still holds and close the file; the number of frames in it."""
        if self._frames == 0:
            raise ValueError("a segment has at least one frame")
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._frames

    def abandon(self) -> None:
        """Close without writing the rest: the file is of no use and belongs to the caller to remove."""
        self._container.close()


def _video_frame(planes: Planes) -> VideoFrame:
    """The planes as the encoder takes them; without a copy where memory and PyAV allow it."""
    packed = _packed(planes)
    if packed is not None and planes.height % 4 == 0:
        frame = VideoFrame.from_numpy_buffer(packed, "yuv420p")
    else:
        # from_numpy_buffer takes rows // 6 * 4 for the height, which is wrong for 182 rows: copy plane by plane.
        frame = VideoFrame(planes.width, planes.height, "yuv420p")
        for target, source in zip(frame.planes, (planes.y, planes.u, planes.v), strict=True):
            rows = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)  # type: ignore[call-overload]
            rows[: source.shape[0], : source.shape[1]] = source
    if (frame.width, frame.height) != (planes.width, planes.height):
        raise ValueError(f"PyAV made {frame.width}x{frame.height} of {planes.width}x{planes.height}")
    return frame


def _packed(planes: Planes) -> NDArray[np.uint8] | None:
    """(3 H / 2, W) over the same memory if y, u and v lie behind one another without gaps, else None."""
    start = planes.y.ctypes.data
    luma, chroma = planes.y.nbytes, planes.u.nbytes
    lies_packed = (
        planes.y.flags.c_contiguous
        and planes.u.flags.c_contiguous
        and planes.v.flags.c_contiguous
        and planes.u.ctypes.data == start + luma
        and planes.v.ctypes.data == start + luma + chroma
    )
    if not lies_packed:
        return None
    rows, width = planes.height * 3 // 2, planes.width
    return np.lib.stride_tricks.as_strided(planes.y, shape=(rows, width), strides=(width, 1))


def _field_graph(shape: Shape, rate: Fraction) -> Graph:
    """PyAV cannot set a frame's field flags; this filter does and copies nothing."""
    graph = Graph()
    source = graph.add_buffer(width=shape.width, height=shape.height, format=VideoFormat("yuv420p"), time_base=1 / rate)
    flag = graph.add("setfield", "tff" if shape.fields is Fields.TOP_FIRST else "bff")
    sink = graph.add("buffersink")
    source.link_to(flag)
    flag.link_to(sink)
    graph.configure()
    return graph


def count_frames(path: Path) -> int:
    """Frames of a segment by its packets, without decoding them."""
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)
