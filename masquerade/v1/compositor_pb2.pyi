from masquerade.v1 import media_pb2 as _media_pb2
from masquerade.v1 import swapper_pb2 as _swapper_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BackgroundKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BACKGROUND_KIND_UNSPECIFIED: _ClassVar[BackgroundKind]
    BACKGROUND_KIND_KEEP: _ClassVar[BackgroundKind]
    BACKGROUND_KIND_IMAGE: _ClassVar[BackgroundKind]
    BACKGROUND_KIND_VIDEO: _ClassVar[BackgroundKind]
    BACKGROUND_KIND_BLUR: _ClassVar[BackgroundKind]
    BACKGROUND_KIND_COLOUR: _ClassVar[BackgroundKind]
BACKGROUND_KIND_UNSPECIFIED: BackgroundKind
BACKGROUND_KIND_KEEP: BackgroundKind
BACKGROUND_KIND_IMAGE: BackgroundKind
BACKGROUND_KIND_VIDEO: BackgroundKind
BACKGROUND_KIND_BLUR: BackgroundKind
BACKGROUND_KIND_COLOUR: BackgroundKind

class EncodeSettings(_message.Message):
    __slots__ = ("container", "preset", "crf", "bframes", "threads")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    CRF_FIELD_NUMBER: _ClassVar[int]
    BFRAMES_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    container: str
    preset: str
    crf: int
    bframes: int
    threads: int
    def __init__(self, container: _Optional[str] = ..., preset: _Optional[str] = ..., crf: _Optional[int] = ..., bframes: _Optional[int] = ..., threads: _Optional[int] = ...) -> None: ...

class RenderBackground(_message.Message):
    __slots__ = ("kind", "asset_key", "index_key", "rgb", "blur", "model")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    RGB_FIELD_NUMBER: _ClassVar[int]
    BLUR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    kind: BackgroundKind
    asset_key: str
    index_key: str
    rgb: int
    blur: float
    model: str
    def __init__(self, kind: _Optional[_Union[BackgroundKind, str]] = ..., asset_key: _Optional[str] = ..., index_key: _Optional[str] = ..., rgb: _Optional[int] = ..., blur: _Optional[float] = ..., model: _Optional[str] = ...) -> None: ...

class CastEntry(_message.Message):
    __slots__ = ("person", "identity_key", "identity_digest")
    PERSON_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_KEY_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    person: int
    identity_key: str
    identity_digest: str
    def __init__(self, person: _Optional[int] = ..., identity_key: _Optional[str] = ..., identity_digest: _Optional[str] = ...) -> None: ...

class RenderSegmentRequest(_message.Message):
    __slots__ = ("asset_key", "index_key", "segment", "keep", "apply", "timeline_key", "cast", "engine", "engine_options", "background", "encode", "label", "output_key", "plane_digests", "dump_planes")
    class EngineOptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_KEY_FIELD_NUMBER: _ClassVar[int]
    CAST_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_KEY_FIELD_NUMBER: _ClassVar[int]
    PLANE_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    DUMP_PLANES_FIELD_NUMBER: _ClassVar[int]
    asset_key: str
    index_key: str
    segment: _media_pb2.Segment
    keep: _containers.RepeatedCompositeFieldContainer[_media_pb2.FrameRange]
    apply: _containers.RepeatedCompositeFieldContainer[_media_pb2.FrameRange]
    timeline_key: str
    cast: _containers.RepeatedCompositeFieldContainer[CastEntry]
    engine: str
    engine_options: _containers.ScalarMap[str, str]
    background: RenderBackground
    encode: EncodeSettings
    label: str
    output_key: str
    plane_digests: bool
    dump_planes: bool
    def __init__(self, asset_key: _Optional[str] = ..., index_key: _Optional[str] = ..., segment: _Optional[_Union[_media_pb2.Segment, _Mapping]] = ..., keep: _Optional[_Iterable[_Union[_media_pb2.FrameRange, _Mapping]]] = ..., apply: _Optional[_Iterable[_Union[_media_pb2.FrameRange, _Mapping]]] = ..., timeline_key: _Optional[str] = ..., cast: _Optional[_Iterable[_Union[CastEntry, _Mapping]]] = ..., engine: _Optional[str] = ..., engine_options: _Optional[_Mapping[str, str]] = ..., background: _Optional[_Union[RenderBackground, _Mapping]] = ..., encode: _Optional[_Union[EncodeSettings, _Mapping]] = ..., label: _Optional[str] = ..., output_key: _Optional[str] = ..., plane_digests: _Optional[bool] = ..., dump_planes: _Optional[bool] = ...) -> None: ...

class RenderSegmentResponse(_message.Message):
    __slots__ = ("segment", "frames", "plane_digests", "reused", "faces")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PLANE_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    REUSED_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    segment: _media_pb2.ObjectRef
    frames: int
    plane_digests: _media_pb2.ObjectRef
    reused: bool
    faces: int
    def __init__(self, segment: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., frames: _Optional[int] = ..., plane_digests: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., reused: _Optional[bool] = ..., faces: _Optional[int] = ...) -> None: ...

class AssembleRequest(_message.Message):
    __slots__ = ("asset_key", "index_key", "segments", "keep", "encode", "output_key", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_KEY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    asset_key: str
    index_key: str
    segments: _containers.RepeatedCompositeFieldContainer[_media_pb2.ObjectRef]
    keep: _containers.RepeatedCompositeFieldContainer[_media_pb2.FrameRange]
    encode: EncodeSettings
    output_key: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, asset_key: _Optional[str] = ..., index_key: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[_media_pb2.ObjectRef, _Mapping]]] = ..., keep: _Optional[_Iterable[_Union[_media_pb2.FrameRange, _Mapping]]] = ..., encode: _Optional[_Union[EncodeSettings, _Mapping]] = ..., output_key: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class AssembleResponse(_message.Message):
    __slots__ = ("file", "frames", "offset_num", "offset_den", "notes")
    FILE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_NUM_FIELD_NUMBER: _ClassVar[int]
    OFFSET_DEN_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    file: _media_pb2.ObjectRef
    frames: int
    offset_num: int
    offset_den: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, file: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., frames: _Optional[int] = ..., offset_num: _Optional[int] = ..., offset_den: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("file_key", "asset_key", "index_key", "keep", "offset_num", "offset_den")
    FILE_KEY_FIELD_NUMBER: _ClassVar[int]
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_KEY_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    OFFSET_NUM_FIELD_NUMBER: _ClassVar[int]
    OFFSET_DEN_FIELD_NUMBER: _ClassVar[int]
    file_key: str
    asset_key: str
    index_key: str
    keep: _containers.RepeatedCompositeFieldContainer[_media_pb2.FrameRange]
    offset_num: int
    offset_den: int
    def __init__(self, file_key: _Optional[str] = ..., asset_key: _Optional[str] = ..., index_key: _Optional[str] = ..., keep: _Optional[_Iterable[_Union[_media_pb2.FrameRange, _Mapping]]] = ..., offset_num: _Optional[int] = ..., offset_den: _Optional[int] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("frames", "max_pts_error_ms", "gates")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    MAX_PTS_ERROR_MS_FIELD_NUMBER: _ClassVar[int]
    GATES_FIELD_NUMBER: _ClassVar[int]
    frames: int
    max_pts_error_ms: float
    gates: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, frames: _Optional[int] = ..., max_pts_error_ms: _Optional[float] = ..., gates: _Optional[_Iterable[str]] = ...) -> None: ...

class FinaliseRequest(_message.Message):
    __slots__ = ("file_key", "output_key", "record_json")
    FILE_KEY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_KEY_FIELD_NUMBER: _ClassVar[int]
    RECORD_JSON_FIELD_NUMBER: _ClassVar[int]
    file_key: str
    output_key: str
    record_json: str
    def __init__(self, file_key: _Optional[str] = ..., output_key: _Optional[str] = ..., record_json: _Optional[str] = ...) -> None: ...

class FinaliseResponse(_message.Message):
    __slots__ = ("artifact", "record", "signer")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    artifact: _media_pb2.ObjectRef
    record: _media_pb2.ObjectRef
    signer: str
    def __init__(self, artifact: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., record: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., signer: _Optional[str] = ...) -> None: ...

class ListEncodersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListEncodersResponse(_message.Message):
    __slots__ = ("encoders", "blur")
    ENCODERS_FIELD_NUMBER: _ClassVar[int]
    BLUR_FIELD_NUMBER: _ClassVar[int]
    encoders: _containers.RepeatedCompositeFieldContainer[EncoderInfo]
    blur: float
    def __init__(self, encoders: _Optional[_Iterable[_Union[EncoderInfo, _Mapping]]] = ..., blur: _Optional[float] = ...) -> None: ...

class EncoderInfo(_message.Message):
    __slots__ = ("name", "is_default", "options", "choices")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    name: str
    is_default: bool
    options: _containers.ScalarMap[str, str]
    choices: _containers.RepeatedCompositeFieldContainer[_swapper_pb2.OptionChoices]
    def __init__(self, name: _Optional[str] = ..., is_default: _Optional[bool] = ..., options: _Optional[_Mapping[str, str]] = ..., choices: _Optional[_Iterable[_Union[_swapper_pb2.OptionChoices, _Mapping]]] = ...) -> None: ...
