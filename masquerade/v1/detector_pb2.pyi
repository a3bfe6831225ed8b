from masquerade.v1 import frames_pb2 as _frames_pb2
from masquerade.v1 import media_pb2 as _media_pb2
from masquerade.v1 import timeline_pb2 as _timeline_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PortraitKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PORTRAIT_KIND_UNSPECIFIED: _ClassVar[PortraitKind]
    PORTRAIT_KIND_PHOTO: _ClassVar[PortraitKind]
    PORTRAIT_KIND_DRAWN: _ClassVar[PortraitKind]
PORTRAIT_KIND_UNSPECIFIED: PortraitKind
PORTRAIT_KIND_PHOTO: PortraitKind
PORTRAIT_KIND_DRAWN: PortraitKind

class DetectRequest(_message.Message):
    __slots__ = ("frames", "detector")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    frames: _frames_pb2.FrameBatch
    detector: str
    def __init__(self, frames: _Optional[_Union[_frames_pb2.FrameBatch, _Mapping]] = ..., detector: _Optional[str] = ...) -> None: ...

class DetectResponse(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[FacesInFrame]
    def __init__(self, frames: _Optional[_Iterable[_Union[FacesInFrame, _Mapping]]] = ...) -> None: ...

class FacesInFrame(_message.Message):
    __slots__ = ("index", "faces")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    index: int
    faces: _containers.RepeatedCompositeFieldContainer[Face]
    def __init__(self, index: _Optional[int] = ..., faces: _Optional[_Iterable[_Union[Face, _Mapping]]] = ...) -> None: ...

class Face(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1", "score", "landmarks", "yaw_degrees", "pitch_degrees", "roll_degrees", "sharpness")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LANDMARKS_FIELD_NUMBER: _ClassVar[int]
    YAW_DEGREES_FIELD_NUMBER: _ClassVar[int]
    PITCH_DEGREES_FIELD_NUMBER: _ClassVar[int]
    ROLL_DEGREES_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_FIELD_NUMBER: _ClassVar[int]
    x0: float
    y0: float
    x1: float
    y1: float
    score: float
    landmarks: _containers.RepeatedScalarFieldContainer[float]
    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float
    sharpness: float
    def __init__(self, x0: _Optional[float] = ..., y0: _Optional[float] = ..., x1: _Optional[float] = ..., y1: _Optional[float] = ..., score: _Optional[float] = ..., landmarks: _Optional[_Iterable[float]] = ..., yaw_degrees: _Optional[float] = ..., pitch_degrees: _Optional[float] = ..., roll_degrees: _Optional[float] = ..., sharpness: _Optional[float] = ...) -> None: ...

class AnalyseSegmentRequest(_message.Message):
    __slots__ = ("asset_key", "index_key", "segment", "output_key", "detector", "max_faces")
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_KEY_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    MAX_FACES_FIELD_NUMBER: _ClassVar[int]
    asset_key: str
    index_key: str
    segment: _media_pb2.Segment
    output_key: str
    detector: str
    max_faces: int
    def __init__(self, asset_key: _Optional[str] = ..., index_key: _Optional[str] = ..., segment: _Optional[_Union[_media_pb2.Segment, _Mapping]] = ..., output_key: _Optional[str] = ..., detector: _Optional[str] = ..., max_faces: _Optional[int] = ...) -> None: ...

class AnalyseSegmentResponse(_message.Message):
    __slots__ = ("observations", "frames", "faces", "reused")
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    REUSED_FIELD_NUMBER: _ClassVar[int]
    observations: _media_pb2.ObjectRef
    frames: int
    faces: int
    reused: bool
    def __init__(self, observations: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., frames: _Optional[int] = ..., faces: _Optional[int] = ..., reused: _Optional[bool] = ...) -> None: ...

class LinkRequest(_message.Message):
    __slots__ = ("index_key", "segments", "observations", "output_key", "detector")
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_KEY_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    index_key: str
    segments: _containers.RepeatedCompositeFieldContainer[_media_pb2.Segment]
    observations: _containers.RepeatedCompositeFieldContainer[_media_pb2.ObjectRef]
    output_key: str
    detector: str
    def __init__(self, index_key: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[_media_pb2.Segment, _Mapping]]] = ..., observations: _Optional[_Iterable[_Union[_media_pb2.ObjectRef, _Mapping]]] = ..., output_key: _Optional[str] = ..., detector: _Optional[str] = ...) -> None: ...

class LinkResponse(_message.Message):
    __slots__ = ("timeline", "summary", "reused")
    TIMELINE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    REUSED_FIELD_NUMBER: _ClassVar[int]
    timeline: _media_pb2.ObjectRef
    summary: _timeline_pb2.TimelineSummary
    reused: bool
    def __init__(self, timeline: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., summary: _Optional[_Union[_timeline_pb2.TimelineSummary, _Mapping]] = ..., reused: _Optional[bool] = ...) -> None: ...

class Portrait(_message.Message):
    __slots__ = ("asset_key", "name", "kind", "landmarks")
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LANDMARKS_FIELD_NUMBER: _ClassVar[int]
    asset_key: str
    name: str
    kind: PortraitKind
    landmarks: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, asset_key: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[PortraitKind, str]] = ..., landmarks: _Optional[_Iterable[float]] = ...) -> None: ...

class EnrollRequest(_message.Message):
    __slots__ = ("portraits", "output_key", "detector")
    PORTRAITS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_KEY_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    portraits: _containers.RepeatedCompositeFieldContainer[Portrait]
    output_key: str
    detector: str
    def __init__(self, portraits: _Optional[_Iterable[_Union[Portrait, _Mapping]]] = ..., output_key: _Optional[str] = ..., detector: _Optional[str] = ...) -> None: ...

class EnrollResponse(_message.Message):
    __slots__ = ("identity", "quality")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    identity: _media_pb2.ObjectRef
    quality: _containers.RepeatedCompositeFieldContainer[PortraitQuality]
    def __init__(self, identity: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., quality: _Optional[_Iterable[_Union[PortraitQuality, _Mapping]]] = ...) -> None: ...

class PortraitQuality(_message.Message):
    __slots__ = ("name", "face_width_px", "yaw_degrees", "sharpness", "warnings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FACE_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    YAW_DEGREES_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    face_width_px: float
    yaw_degrees: float
    sharpness: float
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., face_width_px: _Optional[float] = ..., yaw_degrees: _Optional[float] = ..., sharpness: _Optional[float] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class ListDetectorsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDetectorsResponse(_message.Message):
    __slots__ = ("detectors", "max_faces")
    DETECTORS_FIELD_NUMBER: _ClassVar[int]
    MAX_FACES_FIELD_NUMBER: _ClassVar[int]
    detectors: _containers.RepeatedCompositeFieldContainer[DetectorInfo]
    max_faces: int
    def __init__(self, detectors: _Optional[_Iterable[_Union[DetectorInfo, _Mapping]]] = ..., max_faces: _Optional[int] = ...) -> None: ...

class DetectorInfo(_message.Message):
    __slots__ = ("name", "is_default", "models", "missing")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    is_default: bool
    models: _containers.RepeatedScalarFieldContainer[str]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., is_default: _Optional[bool] = ..., models: _Optional[_Iterable[str]] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...
