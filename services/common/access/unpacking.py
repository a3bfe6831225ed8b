"""Messages as they came over the wire become messages, within bounds: a few packed bytes do not become a full memory.

gRPC itself unpacks a whole message before it looks at its size: 194 kB of gzip took 400 MB here. A public server tells
it not to, and unpacks no more than the largest message that is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from services.common import errors
from services.common.interceptors import CallInterceptor, CallName

GRPC_UNPACKS_NOTHING: Final = ("grpc.per_message_decompression", 0)
"""gRPC's option that belongs to `Unpacking`."""

_GZIP: Final = b"\x1f\x8b"
"""How gzip begins. No message does: field 3 of wire type 7, which does not exist."""

_GZIP_WINDOW: Final = 31


class Unpacking(CallInterceptor):
    """Unpacks and parses what callers send; what is too large or cannot be read is a typed error."""

    def __init__(self, *, bytes_at_most: int) -> None:
        self._bytes_at_most = bytes_at_most

    def reading(self, parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
        """See CallInterceptor."""

        def read(raw: bytes) -> Any:
            # Raised in `received`, inside of what turns errors into status: here gRPC would tell the caller its own.
            try:
                content = unpacked(raw, bytes_at_most=self._bytes_at_most)
            except errors.MasqueradeError as error:
                return _Unreadable(error)
            try:
                return content if parse is None else parse(content)
            except Exception:  # noqa: BLE001  # every serializer has its own
                return _Unreadable(_cannot_be_read())

        return read

    def received(self, call: CallName, message: Any) -> None:
        """See CallInterceptor."""
        if isinstance(message, _Unreadable):
            raise message.error


class _Unreadable:
    """Stands where a message should."""

    def __init__(self, error: errors.MasqueradeError) -> None:
        self.error = error


def unpacked(raw: bytes, *, bytes_at_most: int) -> bytes:
    """A message as its sender made it, whether it was packed by gzip or not.

    Raises:
        QuotaExceeded: it is larger.
        InvalidSpec: it was packed and is damaged.
    """
    if not raw.startswith(_GZIP):
        return raw
    engine = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = engine.decompress(raw, bytes_at_most + 1)
    except zlib.error:
        raise _cannot_be_read() from None
    if len(content) > bytes_at_most:
        raise errors.QuotaExceeded(
            limit="bytes of a message, unpacked", most=bytes_at_most, remedy="send less at once; uploads go in chunks"
        )
    if not engine.eof or engine.unused_data:
        raise _cannot_be_read()
    return content


def _cannot_be_read() -> errors.InvalidSpec:
    return errors.InvalidSpec(
        field="request",
        problem="cannot be read as a message of this method",
        remedy="send what the contract says, packed by gzip or not at all",
    )
