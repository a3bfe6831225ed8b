from masquerade.v1 import frames_pb2 as _frames_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SwapRequest(_message.Message):
    __slots__ = ("identity_key", "engine", "options", "crops", "faces", "textures_key", "answer_slot")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IDENTITY_KEY_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CROPS_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    TEXTURES_KEY_FIELD_NUMBER: _ClassVar[int]
    ANSWER_SLOT_FIELD_NUMBER: _ClassVar[int]
    identity_key: str
    engine: str
    options: _containers.ScalarMap[str, str]
    crops: _frames_pb2.ImageSet
    faces: _containers.RepeatedCompositeFieldContainer[SwapFace]
    textures_key: str
    answer_slot: _frames_pb2.SlotLease
    def __init__(self, identity_key: _Optional[str] = ..., engine: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., crops: _Optional[_Union[_frames_pb2.ImageSet, _Mapping]] = ..., faces: _Optional[_Iterable[_Union[SwapFace, _Mapping]]] = ..., textures_key: _Optional[str] = ..., answer_slot: _Optional[_Union[_frames_pb2.SlotLease, _Mapping]] = ...) -> None: ...

class SwapFace(_message.Message):
    __slots__ = ("index", "track", "landmarks", "weight", "yaw_degrees", "pitch_degrees", "roll_degrees")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    LANDMARKS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    YAW_DEGREES_FIELD_NUMBER: _ClassVar[int]
    PITCH_DEGREES_FIELD_NUMBER: _ClassVar[int]
    ROLL_DEGREES_FIELD_NUMBER: _ClassVar[int]
    index: int
    track: int
    landmarks: bytes
    weight: float
    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float
    def __init__(self, index: _Optional[int] = ..., track: _Optional[int] = ..., landmarks: _Optional[bytes] = ..., weight: _Optional[float] = ..., yaw_degrees: _Optional[float] = ..., pitch_degrees: _Optional[float] = ..., roll_degrees: _Optional[float] = ...) -> None: ...

class SwapResponse(_message.Message):
    __slots__ = ("patches", "pixels")
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    patches: _containers.RepeatedCompositeFieldContainer[Patch]
    pixels: _frames_pb2.ImageSet
    def __init__(self, patches: _Optional[_Iterable[_Union[Patch, _Mapping]]] = ..., pixels: _Optional[_Union[_frames_pb2.ImageSet, _Mapping]] = ...) -> None: ...

class Patch(_message.Message):
    __slots__ = ("index", "track", "affine", "is_empty")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    IS_EMPTY_FIELD_NUMBER: _ClassVar[int]
    index: int
    track: int
    affine: _containers.RepeatedScalarFieldContainer[float]
    is_empty: bool
    def __init__(self, index: _Optional[int] = ..., track: _Optional[int] = ..., affine: _Optional[_Iterable[float]] = ..., is_empty: _Optional[bool] = ...) -> None: ...

class ListEnginesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListEnginesResponse(_message.Message):
    __slots__ = ("engines",)
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    engines: _containers.RepeatedCompositeFieldContainer[SwapEngineInfo]
    def __init__(self, engines: _Optional[_Iterable[_Union[SwapEngineInfo, _Mapping]]] = ...) -> None: ...

class SwapEngineInfo(_message.Message):
    __slots__ = ("name", "description", "options", "models", "is_default", "choices", "missing")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    options: _containers.ScalarMap[str, str]
    models: _containers.RepeatedScalarFieldContainer[str]
    is_default: bool
    choices: _containers.RepeatedCompositeFieldContainer[OptionChoices]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., models: _Optional[_Iterable[str]] = ..., is_default: _Optional[bool] = ..., choices: _Optional[_Iterable[_Union[OptionChoices, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class OptionChoices(_message.Message):
    __slots__ = ("option", "values")
    OPTION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    option: str
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, option: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...
