"""What the tests run in children: functions at the top of a module that another process can load."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import time
from typing import Any

from services.common import errors
from services.common.child_wire import Channel


def add(a: int, b: int) -> int:
    return a + b


def echo(value: Any) -> Any:
    return value


def own_pid() -> int:
    return os.getpid()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave_quietly() -> None:
    os._exit(3)


def eat_memory(count: int) -> int:
    return len(bytearray(count))


class _Swallowing:
    """Fails where an error cannot rise, as in a callback of a C library."""

    def __del__(self) -> None:
        raise MemoryError


def swallow_want_of_memory(channel: Channel) -> None:
    while True:
        _Swallowing()


def fail_like_ffmpeg(channel: Channel) -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def fail_without_a_word(channel: Channel) -> None:
    def write(message: Any) -> None:
        raise MemoryError

    channel.write = write  # type: ignore[method-assign]
    raise MemoryError


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def spin() -> None:
    while True:
        pass


def write_much(path: str) -> None:
    with open(path, "wb") as file:
        file.write(bytes(1 << 20))


def refuse() -> None:
    raise errors.NotAVideo(
        found="text/plain", remedy="give a video", violations=[errors.Violation("asset", "is a poem")]
    )


def have_a_fault() -> None:
    raise ZeroDivisionError("of ours")


def open_descriptors() -> list[int]:
    held = []
    for fd in range(3, 64):
        try:
            os.fstat(fd)
        except OSError:
            continue
        held.append(fd)
    return held


def write_into(text: str, *, fds: tuple[int, ...]) -> int:
    with mmap.mmap(fds[0], 0) as shared:
        shared[: len(text)] = text.encode()
    return len(fds)


def count_to(channel: Channel, count: int) -> str:
    for number in range(count):
        channel.send({"number": number, "bytes": bytes([number % 256])})
    return "done"


def answer_each(channel: Channel) -> int:
    answered = 0
    for message in channel:
        if message == "enough":
            break
        channel.send([message, answered])
        answered += 1
    return answered


def die_after(channel: Channel, count: int) -> None:
    for number in range(count):
        channel.send(number)
    os.kill(os.getpid(), signal.SIGKILL)


def speak_nonsense(channel: Channel) -> None:
    channel._connection.sendall(b"\xff" * 64)
    time.sleep(60)


def promise_too_much(channel: Channel) -> None:
    channel._connection.sendall(b"\x00\x00\x00\x01" + b"\x00\x00\xff" + b"\xff" * 5)
    time.sleep(60)


def say_pid_then_sleep(channel: Channel) -> None:
    channel.send(os.getpid())
    time.sleep(600)
