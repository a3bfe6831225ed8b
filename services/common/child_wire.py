"""What a process and its child say to each other: JSON with byte strings beside it.

A child reads hostile bytes and may be taken over by them; so nothing that it says is ever unpickled, and its sizes are
checked before memory is given to them.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

Message: TypeAlias = Any
"""None, bool, int, float, str, bytes, lists, tuples and dicts (str keys) of them; a tuple arrives as a list."""

PARTS_AT_MOST = 4096
BYTES_AT_MOST = 256 << 20
"""Most bytes of one message. Pixels travel in shared memory; the largest honest message is a long video's index."""

_COUNT = struct.Struct("!I")
_BYTES = "$bytes"


class MalformedMessageError(ValueError):
    """The other end does not speak our language; it is broken or hostile."""


def encode(message: Message) -> list[bytes]:
    """The pieces of a message, in the order in which they are written."""
    blobs: list[bytes] = []
    text = json.dumps(_without_blobs(message, blobs), separators=(",", ":")).encode()
    parts = [text, *blobs]
    if len(parts) > PARTS_AT_MOST or sum(map(len, parts)) > BYTES_AT_MOST:
        raise MalformedMessageError("a message of too many bytes or parts")
    return [_COUNT.pack(len(parts)), struct.pack(f"!{len(parts)}Q", *map(len, parts)), *parts]


def lengths_length(head: bytes) -> int:
    """Bytes of the table of lengths that follows the 4 bytes of a message's head."""
    (count,) = _COUNT.unpack(head)
    if not 1 <= count <= PARTS_AT_MOST:
        raise MalformedMessageError(f"a message of {count} parts")
    return int(8 * count)


def part_lengths(table: bytes) -> list[int]:
    """Bytes of each part; refused when they are more than one message may have."""
    lengths = list(struct.unpack(f"!{len(table) // 8}Q", table))
    if sum(lengths) > BYTES_AT_MOST:
        raise MalformedMessageError(f"a message of {sum(lengths)} bytes")
    return lengths


def decode(parts: Sequence[bytes]) -> Message:
    """The message that these parts hold."""
    try:
        return _with_blobs(json.loads(parts[0]), parts[1:])
    except (ValueError, IndexError, TypeError, RecursionError) as error:
        raise MalformedMessageError(str(error)) from error


def _without_blobs(value: Message, blobs: list[bytes]) -> Message:
    if isinstance(value, (bytes, bytearray, memoryview)):
        blobs.append(bytes(value))
        return {_BYTES: len(blobs)}
    if isinstance(value, dict):
        if _BYTES in value:
            raise ValueError(f"{_BYTES} is our own key")
        return {key: _without_blobs(item, blobs) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_blobs(item, blobs) for item in value]
    return value


def _with_blobs(value: Message, blobs: Sequence[bytes]) -> Message:
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            number = int(value[_BYTES])
            if number < 1:
                raise IndexError(number)
            return blobs[number - 1]
        return {key: _with_blobs(item, blobs) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_blobs(item, blobs) for item in value]
    return value


class Channel:
    """The child's end of a conversation; blocking, because a child has nothing else to do.

    Attributes:
        fds: the descriptors that the parent passed, in its order.
    """

    def __init__(self, connection: socket.socket, fds: tuple[int, ...] = ()) -> None:
        self._connection = connection
        self._incoming = connection.makefile("rb")
        self.fds = fds

    def send(self, message: Message) -> None:
        """Say something to the parent; waits while the parent does not listen."""
        self.write(["message", message])

    def write(self, message: Message) -> None:
        """Write one message as it is."""
        # One system call for the many small pieces of the many small messages.
        self._connection.sendall(b"".join(encode(message)))

    def receive(self) -> Message:
        """The parent's next message; EOFError when it has left."""
        table = self._exactly(lengths_length(self._exactly(4)))
        return decode([self._exactly(length) for length in part_lengths(table)])

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                message = self.receive()
            except EOFError:
                return
            yield message

    def _exactly(self, count: int) -> bytes:
        got = self._incoming.read(count)
        if len(got) < count:
            raise EOFError
        return got
