from masquerade.v1 import frames_pb2 as _frames_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TimeBase(_message.Message):
    __slots__ = ("num", "den")
    NUM_FIELD_NUMBER: _ClassVar[int]
    DEN_FIELD_NUMBER: _ClassVar[int]
    num: int
    den: int
    def __init__(self, num: _Optional[int] = ..., den: _Optional[int] = ...) -> None: ...

class ObjectRef(_message.Message):
    __slots__ = ("key", "digest", "size_bytes")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    key: str
    digest: str
    size_bytes: int
    def __init__(self, key: _Optional[str] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class FrameRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class TimeRange(_message.Message):
    __slots__ = ("start_ms", "end_ms")
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    start_ms: int
    end_ms: int
    def __init__(self, start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ...) -> None: ...

class OtherStream(_message.Message):
    __slots__ = ("kind", "codec", "language", "sample_rate_hz", "channels")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    codec: str
    language: str
    sample_rate_hz: int
    channels: int
    def __init__(self, kind: _Optional[str] = ..., codec: _Optional[str] = ..., language: _Optional[str] = ..., sample_rate_hz: _Optional[int] = ..., channels: _Optional[int] = ...) -> None: ...

class MediaInfo(_message.Message):
    __slots__ = ("container", "codec", "coded_format", "width", "height", "colour", "time_base", "mean_rate_num", "mean_rate_den", "frames", "first_pts", "end_pts", "is_vfr", "is_interlaced", "rotation_degrees", "padded_from_width", "padded_from_height", "sar_num", "sar_den", "others", "chapters", "notes")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    CODED_FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    COLOUR_FIELD_NUMBER: _ClassVar[int]
    TIME_BASE_FIELD_NUMBER: _ClassVar[int]
    MEAN_RATE_NUM_FIELD_NUMBER: _ClassVar[int]
    MEAN_RATE_DEN_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    FIRST_PTS_FIELD_NUMBER: _ClassVar[int]
    END_PTS_FIELD_NUMBER: _ClassVar[int]
    IS_VFR_FIELD_NUMBER: _ClassVar[int]
    IS_INTERLACED_FIELD_NUMBER: _ClassVar[int]
    ROTATION_DEGREES_FIELD_NUMBER: _ClassVar[int]
    PADDED_FROM_WIDTH_FIELD_NUMBER: _ClassVar[int]
    PADDED_FROM_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SAR_NUM_FIELD_NUMBER: _ClassVar[int]
    SAR_DEN_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    CHAPTERS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    container: str
    codec: str
    coded_format: str
    width: int
    height: int
    colour: _frames_pb2.ColourTags
    time_base: TimeBase
    mean_rate_num: int
    mean_rate_den: int
    frames: int
    first_pts: int
    end_pts: int
    is_vfr: bool
    is_interlaced: bool
    rotation_degrees: int
    padded_from_width: int
    padded_from_height: int
    sar_num: int
    sar_den: int
    others: _containers.RepeatedCompositeFieldContainer[OtherStream]
    chapters: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, container: _Optional[str] = ..., codec: _Optional[str] = ..., coded_format: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., colour: _Optional[_Union[_frames_pb2.ColourTags, _Mapping]] = ..., time_base: _Optional[_Union[TimeBase, _Mapping]] = ..., mean_rate_num: _Optional[int] = ..., mean_rate_den: _Optional[int] = ..., frames: _Optional[int] = ..., first_pts: _Optional[int] = ..., end_pts: _Optional[int] = ..., is_vfr: _Optional[bool] = ..., is_interlaced: _Optional[bool] = ..., rotation_degrees: _Optional[int] = ..., padded_from_width: _Optional[int] = ..., padded_from_height: _Optional[int] = ..., sar_num: _Optional[int] = ..., sar_den: _Optional[int] = ..., others: _Optional[_Iterable[_Union[OtherStream, _Mapping]]] = ..., chapters: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("number", "frames")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    number: int
    frames: FrameRange
    def __init__(self, number: _Optional[int] = ..., frames: _Optional[_Union[FrameRange, _Mapping]] = ...) -> None: ...
