from masquerade.v1 import frames_pb2 as _frames_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SegmentRequest(_message.Message):
    __slots__ = ("frames", "model", "answer_slot")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ANSWER_SLOT_FIELD_NUMBER: _ClassVar[int]
    frames: _frames_pb2.FrameBatch
    model: str
    answer_slot: _frames_pb2.SlotLease
    def __init__(self, frames: _Optional[_Union[_frames_pb2.FrameBatch, _Mapping]] = ..., model: _Optional[str] = ..., answer_slot: _Optional[_Union[_frames_pb2.SlotLease, _Mapping]] = ...) -> None: ...

class SegmentResponse(_message.Message):
    __slots__ = ("mattes",)
    MATTES_FIELD_NUMBER: _ClassVar[int]
    mattes: _frames_pb2.FrameBatch
    def __init__(self, mattes: _Optional[_Union[_frames_pb2.FrameBatch, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[MattingModelInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[MattingModelInfo, _Mapping]]] = ...) -> None: ...

class MattingModelInfo(_message.Message):
    __slots__ = ("name", "width", "height", "is_default", "models", "missing")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    width: int
    height: int
    is_default: bool
    models: _containers.RepeatedScalarFieldContainer[str]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., is_default: _Optional[bool] = ..., models: _Optional[_Iterable[str]] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...
