from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class OpenRequest(_message.Message):
    __slots__ = ("region", "size_bytes", "nonce_offset")
    REGION_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    NONCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    region: str
    size_bytes: int
    nonce_offset: int
    def __init__(self, region: _Optional[str] = ..., size_bytes: _Optional[int] = ..., nonce_offset: _Optional[int] = ...) -> None: ...

class OpenResponse(_message.Message):
    __slots__ = ("mapped", "nonce")
    MAPPED_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    mapped: bool
    nonce: bytes
    def __init__(self, mapped: _Optional[bool] = ..., nonce: _Optional[bytes] = ...) -> None: ...
