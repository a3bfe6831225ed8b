from masquerade.v1 import media_pb2 as _media_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Track(_message.Message):
    __slots__ = ("track", "person", "frames", "observed_frames", "max_width_px")
    TRACK_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    MAX_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    track: int
    person: int
    frames: _media_pb2.FrameRange
    observed_frames: int
    max_width_px: float
    def __init__(self, track: _Optional[int] = ..., person: _Optional[int] = ..., frames: _Optional[_Union[_media_pb2.FrameRange, _Mapping]] = ..., observed_frames: _Optional[int] = ..., max_width_px: _Optional[float] = ...) -> None: ...

class Person(_message.Message):
    __slots__ = ("person", "tracks", "first_frame")
    PERSON_FIELD_NUMBER: _ClassVar[int]
    TRACKS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    person: int
    tracks: _containers.RepeatedScalarFieldContainer[int]
    first_frame: int
    def __init__(self, person: _Optional[int] = ..., tracks: _Optional[_Iterable[int]] = ..., first_frame: _Optional[int] = ...) -> None: ...

class TimelineSummary(_message.Message):
    __slots__ = ("frames", "cuts", "tracks", "people", "notes")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    CUTS_FIELD_NUMBER: _ClassVar[int]
    TRACKS_FIELD_NUMBER: _ClassVar[int]
    PEOPLE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    frames: int
    cuts: _containers.RepeatedScalarFieldContainer[int]
    tracks: _containers.RepeatedCompositeFieldContainer[Track]
    people: _containers.RepeatedCompositeFieldContainer[Person]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, frames: _Optional[int] = ..., cuts: _Optional[_Iterable[int]] = ..., tracks: _Optional[_Iterable[_Union[Track, _Mapping]]] = ..., people: _Optional[_Iterable[_Union[Person, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...
