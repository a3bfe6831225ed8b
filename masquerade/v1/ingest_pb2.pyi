from masquerade.v1 import frames_pb2 as _frames_pb2
from masquerade.v1 import media_pb2 as _media_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProbeRequest(_message.Message):
    __slots__ = ("asset_key",)
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    asset_key: str
    def __init__(self, asset_key: _Optional[str] = ...) -> None: ...

class ProbeResponse(_message.Message):
    __slots__ = ("info",)
    INFO_FIELD_NUMBER: _ClassVar[int]
    info: _media_pb2.MediaInfo
    def __init__(self, info: _Optional[_Union[_media_pb2.MediaInfo, _Mapping]] = ...) -> None: ...

class IndexRequest(_message.Message):
    __slots__ = ("asset_key", "index_key")
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    asset_key: str
    index_key: str
    def __init__(self, asset_key: _Optional[str] = ..., index_key: _Optional[str] = ...) -> None: ...

class IndexResponse(_message.Message):
    __slots__ = ("index", "info", "filled_pts", "moved_pts")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    FILLED_PTS_FIELD_NUMBER: _ClassVar[int]
    MOVED_PTS_FIELD_NUMBER: _ClassVar[int]
    index: _media_pb2.ObjectRef
    info: _media_pb2.MediaInfo
    filled_pts: int
    moved_pts: int
    def __init__(self, index: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., info: _Optional[_Union[_media_pb2.MediaInfo, _Mapping]] = ..., filled_pts: _Optional[int] = ..., moved_pts: _Optional[int] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("index_key", "segment_frames", "segments", "keep", "apply")
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FRAMES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    index_key: str
    segment_frames: int
    segments: int
    keep: _containers.RepeatedCompositeFieldContainer[_media_pb2.TimeRange]
    apply: _containers.RepeatedCompositeFieldContainer[_media_pb2.TimeRange]
    def __init__(self, index_key: _Optional[str] = ..., segment_frames: _Optional[int] = ..., segments: _Optional[int] = ..., keep: _Optional[_Iterable[_Union[_media_pb2.TimeRange, _Mapping]]] = ..., apply: _Optional[_Iterable[_Union[_media_pb2.TimeRange, _Mapping]]] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("segments", "keep", "apply")
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[_media_pb2.Segment]
    keep: _containers.RepeatedCompositeFieldContainer[_media_pb2.FrameRange]
    apply: _containers.RepeatedCompositeFieldContainer[_media_pb2.FrameRange]
    def __init__(self, segments: _Optional[_Iterable[_Union[_media_pb2.Segment, _Mapping]]] = ..., keep: _Optional[_Iterable[_Union[_media_pb2.FrameRange, _Mapping]]] = ..., apply: _Optional[_Iterable[_Union[_media_pb2.FrameRange, _Mapping]]] = ...) -> None: ...

class View(_message.Message):
    __slots__ = ("planes", "rgb", "cover", "crops", "frames")
    PLANES_FIELD_NUMBER: _ClassVar[int]
    RGB_FIELD_NUMBER: _ClassVar[int]
    COVER_FIELD_NUMBER: _ClassVar[int]
    CROPS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    planes: PlanesView
    rgb: RgbView
    cover: CoverView
    crops: CropsView
    frames: _media_pb2.FrameRange
    def __init__(self, planes: _Optional[_Union[PlanesView, _Mapping]] = ..., rgb: _Optional[_Union[RgbView, _Mapping]] = ..., cover: _Optional[_Union[CoverView, _Mapping]] = ..., crops: _Optional[_Union[CropsView, _Mapping]] = ..., frames: _Optional[_Union[_media_pb2.FrameRange, _Mapping]] = ...) -> None: ...

class PlanesView(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RgbView(_message.Message):
    __slots__ = ("width", "height")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class CoverView(_message.Message):
    __slots__ = ("width", "height", "colour")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    COLOUR_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    colour: _frames_pb2.ColourTags
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., colour: _Optional[_Union[_frames_pb2.ColourTags, _Mapping]] = ...) -> None: ...

class CropsView(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[FrameCrops]
    def __init__(self, frames: _Optional[_Iterable[_Union[FrameCrops, _Mapping]]] = ...) -> None: ...

class FrameCrops(_message.Message):
    __slots__ = ("index", "rects")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RECTS_FIELD_NUMBER: _ClassVar[int]
    index: int
    rects: _containers.RepeatedCompositeFieldContainer[_frames_pb2.PixelRect]
    def __init__(self, index: _Optional[int] = ..., rects: _Optional[_Iterable[_Union[_frames_pb2.PixelRect, _Mapping]]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("open", "grant")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    open: DecodeOpen
    grant: DecodeGrant
    def __init__(self, open: _Optional[_Union[DecodeOpen, _Mapping]] = ..., grant: _Optional[_Union[DecodeGrant, _Mapping]] = ...) -> None: ...

class DecodeOpen(_message.Message):
    __slots__ = ("asset_key", "index_key", "frames", "views")
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    asset_key: str
    index_key: str
    frames: _media_pb2.FrameRange
    views: _containers.RepeatedCompositeFieldContainer[View]
    def __init__(self, asset_key: _Optional[str] = ..., index_key: _Optional[str] = ..., frames: _Optional[_Union[_media_pb2.FrameRange, _Mapping]] = ..., views: _Optional[_Iterable[_Union[View, _Mapping]]] = ...) -> None: ...

class DecodeGrant(_message.Message):
    __slots__ = ("slots", "inline_bytes")
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    INLINE_BYTES_FIELD_NUMBER: _ClassVar[int]
    slots: _containers.RepeatedCompositeFieldContainer[_frames_pb2.SlotLease]
    inline_bytes: int
    def __init__(self, slots: _Optional[_Iterable[_Union[_frames_pb2.SlotLease, _Mapping]]] = ..., inline_bytes: _Optional[int] = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[DecodedFrame]
    def __init__(self, frames: _Optional[_Iterable[_Union[DecodedFrame, _Mapping]]] = ...) -> None: ...

class DecodedFrame(_message.Message):
    __slots__ = ("index", "pts", "views", "payload", "top_field_first")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PTS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_FIRST_FIELD_NUMBER: _ClassVar[int]
    index: int
    pts: int
    views: _containers.RepeatedCompositeFieldContainer[DecodedView]
    payload: _frames_pb2.Payload
    top_field_first: bool
    def __init__(self, index: _Optional[int] = ..., pts: _Optional[int] = ..., views: _Optional[_Iterable[_Union[DecodedView, _Mapping]]] = ..., payload: _Optional[_Union[_frames_pb2.Payload, _Mapping]] = ..., top_field_first: _Optional[bool] = ...) -> None: ...

class DecodedView(_message.Message):
    __slots__ = ("view", "images", "colour")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    COLOUR_FIELD_NUMBER: _ClassVar[int]
    view: int
    images: _containers.RepeatedCompositeFieldContainer[_frames_pb2.Image]
    colour: _frames_pb2.ColourTags
    def __init__(self, view: _Optional[int] = ..., images: _Optional[_Iterable[_Union[_frames_pb2.Image, _Mapping]]] = ..., colour: _Optional[_Union[_frames_pb2.ColourTags, _Mapping]] = ...) -> None: ...
