"""Work on hostile bytes, in child processes with limits; a crash there is an error here and never the end of a service.

`await run_in_child(function, *args)` gives what the function gives. `async with child_stream(function, *args)` holds a
conversation with it: `await stream.send(message)`, `async for message in stream`. Functions are named by their module,
so they stand at the top of one; arguments, messages and results are JSON with bytes (`child_wire.Message`). Errors
raised there rise here with their reason and fields. Pixels do not travel this way: pass the descriptor of shared memory
in `fds`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from services.common import errors, metrics
from services.common.child_wire import (
    MalformedMessageError,
    Message,
    decode,
    encode,
    lengths_length,
    part_lengths,
)
from services.common.errors import MasqueradeError, Violation, from_reason
from services.common.nursery import EXIT, EXIT_MEMORY

MiB = 1 << 20
REAPED_WITHIN_S = 5.0
"""A killed process ends at once unless the kernel holds it; beyond this we stop waiting and leave it to the nursery."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What a child may take before the kernel, or its parent, stops it."""

    memory_bytes: int = 1024 * MiB
    """Address space beyond what is mapped at its start and beyond the shared memory that it is passed."""
    cpu_s: int = 300
    file_bytes: int = 4096 * MiB
    """Largest file that it may write."""
    open_files: int = 64
    wall_s: float = 120.0
    """Of one call, or of the wait for one message of a stream."""


class _Nursery:
    """This process's end of the one nursery, started when it is first needed and again if it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def ask(self, request: dict[str, Any], fds: Sequence[int]) -> None:
        """Send one request. It is small and the socket buffers it: this does not wait."""
        line = json.dumps(request).encode() + b"\n"
        try:
            socket.send_fds(self._open(), [line], fds)
        except (BrokenPipeError, ConnectionResetError):
            # Somebody killed the nursery; its children died with it and have been reported. A new one takes over.
            self.close()
            socket.send_fds(self._open(), [line], fds)

    def close(self) -> None:
        """End the nursery and with it every child."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(REAPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _open(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair()
            # Numeric libraries start threads when they are loaded, and threads do not survive the fork.
            alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "services.common.nursery", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    # A command's standard output is its answer; a decoder that prints must not be in it.
                    stdout=subprocess.DEVNULL,
                    env=os.environ | alone | {"PYTHONPATH": path},
                )
            self._control = ours
        return self._control


_nursery = _Nursery()
atexit.register(_nursery.close)


def preload(*modules: str) -> None:
    """Start the nursery and let it load these modules, so that the first child is as quick as the next."""
    for module in modules:
        _nursery.ask({"function": f"{module}:", "fds": 0}, ())


def close_nursery() -> None:
    """End the nursery and with it every child; the next call starts a new one."""
    _nursery.close()


class ChildStream:
    """A conversation with a function that runs in a child. Made by `child_stream`."""

    def __init__(self, name: str, limits: ChildLimits, about: str | None) -> None:
        self._name = name
        self._limits = limits
        self._about = about
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._status: socket.socket
        self._exit: asyncio.Task[int | None] | None = None
        self._result: Message = None
        self._is_over = False

    @property
    def result(self) -> Message:
        """What the function returned; None before its messages have ended."""
        return self._result

    async def send(self, message: Message) -> None:
        """Say something to the child; waits while the child does not listen."""
        try:
            self._writer.writelines(encode(message))
            # Not wait_for: where the wait ends in the moment of being cancelled, that one forgets the cancellation
            # (Python 3.11), and who was cancelled goes on for ever.
            async with asyncio.timeout(self._limits.wall_s):
                await self._writer.drain()
        except (ConnectionResetError, BrokenPipeError):
            # It ended. Why is in what it still said, or in its exit status: the reader of the stream will be told.
            if self._exit is not None and self._reader.at_eof():
                raise await self._death() from None
        except TimeoutError:
            raise self._too_slow() from None

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        if self._is_over:
            raise StopAsyncIteration
        kind, *rest = await self._next()
        if kind == "message":
            return rest[0]
        self._is_over = True
        self._result = rest[0]
        raise StopAsyncIteration

    async def receive(self) -> Message:
        """The next message; a child that has ended without one is an error."""
        async for message in self:
            return message
        raise self._error(errors.DecoderDied, how="it ended before it had said everything")

    async def _next(self) -> list[Any]:
        try:
            async with asyncio.timeout(self._limits.wall_s):
                message = await self._read()
            if message[0] in ("message", "result"):
                return message
            raise self._told(message)
        except TimeoutError:
            raise self._too_slow() from None
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
            raise await self._death() from None
        except (MalformedMessageError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self._error(errors.DecoderDied, how="it no longer spoke our language") from error

    async def _read(self) -> list[Any]:
        table = await self._reader.readexactly(lengths_length(await self._reader.readexactly(4)))
        parts = [await self._reader.readexactly(length) for length in part_lengths(table)]
        message = decode(parts)
        if not isinstance(message, list) or not message:
            raise MalformedMessageError("not a message")
        return message

    def _told(self, message: list[Any]) -> MasqueradeError:
        """The error that the child reported."""
        if message[0] == "error":
            _, reason, fields, remedy, violations = message
            known = {str(name): str(value) for name, value in dict(fields).items()}
            if self._about is not None:
                known.setdefault("path", self._about)
            return from_reason(
                str(reason), known, remedy=remedy, violations=[Violation(*map(str, v)) for v in violations]
            )
        if message[0] == "memory":
            return self._out_of_memory()
        if message[0] == "bug":
            _log.error("a child failed", extra={"function": self._name, "trace": str(message[2])})
            return errors.Internal(function=self._name, detail=str(message[1]))
        raise MalformedMessageError(str(message[0])[:40])

    async def _death(self) -> MasqueradeError:
        """Why a child that said nothing is gone."""
        self._is_over = True
        code = await self._ended()
        if code is None:
            return self._error(errors.DecoderDied, how="the nursery died")
        if code == EXIT_MEMORY:
            return self._out_of_memory()
        if code == -signal.SIGXCPU:
            return self._error(errors.DecodeTimeout, limit_s=self._limits.cpu_s, clock="cpu")
        if code == -signal.SIGXFSZ:
            return self._error(errors.MediaLimitExceeded, limit="bytes written", most=self._limits.file_bytes)
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return self._error(errors.DecoderDied, how=how)

    def _out_of_memory(self) -> MasqueradeError:
        return self._error(errors.MediaLimitExceeded, limit="memory", most=f"{self._limits.memory_bytes} bytes")

    def _too_slow(self) -> MasqueradeError:
        self._is_over = True
        return self._error(errors.DecodeTimeout, limit_s=self._limits.wall_s)

    def _error(self, error_class: type[MasqueradeError], **fields: Any) -> MasqueradeError:
        return error_class(path=self._about, function=self._name, **fields)

    async def __aenter__(self) -> ChildStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self, shape: str, args: tuple[Message, ...], fds: Sequence[int]) -> None:
        """Let the nursery fork the child and tell it its arguments."""
        pieces = encode(list(args))
        ours, theirs = socket.socketpair()
        self._status, status = socket.socketpair()
        self._status.setblocking(False)
        ours.setblocking(False)
        try:
            with theirs, status:
                limits = asdict(self._limits)
                _nursery.ask(
                    {"function": self._name, "shape": shape, "limits": limits, "connection": True, "fds": 2 + len(fds)},
                    [theirs.fileno(), status.fileno(), *fds],
                )
            self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            self._status.close()
            raise
        self._exit = asyncio.create_task(self._wait_for_exit())
        # Closed with the task that reads it and nowhere else: who waits for that task may be cancelled more than once.
        self._exit.add_done_callback(lambda _: self._status.close())
        self._writer.writelines(pieces)

    async def _wait_for_exit(self) -> int | None:
        """The exit status, or None when the nursery died and could not tell."""
        loop = asyncio.get_running_loop()
        try:
            told = await loop.sock_recv(self._status, EXIT.size)
        except ConnectionResetError:
            told = b""
        return int(EXIT.unpack(told)[0]) if told else None

    async def _ended(self) -> int | None:
        """Kill what still lives, wait for its end."""
        assert self._exit is not None
        with contextlib.suppress(OSError):
            self._status.shutdown(socket.SHUT_WR)
        done, _ = await asyncio.wait({self._exit}, timeout=REAPED_WITHIN_S)
        return self._exit.result() if done else None

    async def close(self) -> None:
        """End the child, whatever it is doing, and wait until it is gone. May be called twice."""
        if self._exit is None:
            return
        self._is_over = True
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            self._status.shutdown(socket.SHUT_WR)
        try:
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
            await asyncio.wait({self._exit}, timeout=REAPED_WITHIN_S)
        finally:
            # No waiting from here on: a second cancellation would leave the rest undone.
            ended, self._exit = self._exit, None
            has_ended = ended.done() and not ended.cancelled() and ended.result() == 0
            ended.cancel()
            metrics.CHILDREN.labels("ended" if has_ended else "killed").inc()


@contextlib.asynccontextmanager
async def child_stream(
    function: Callable[..., Any],
    *args: Message,
    fds: Sequence[int] = (),
    limits: ChildLimits | None = None,
    about: str | None = None,
) -> AsyncIterator[ChildStream]:
    """Hold a conversation with `function(channel, *args)` in a child; it is ended when the block is left.

    Args:
        function: at the top of a module; takes a `child_wire.Channel`, whose `fds` are copies of the passed ones.
        args: JSON with bytes.
        fds: descriptors that the child shall hold too; ours stay open and ours.
        limits: what it may take; `wall_s` bounds the wait for each message.
        about: name of the file, for errors.
    """
    stream = ChildStream(_name(function), limits or ChildLimits(), about)
    try:
        await stream.open("stream", args, fds)
        yield stream
    finally:
        await stream.close()


async def run_in_child(
    function: Callable[..., Any],
    *args: Message,
    fds: Sequence[int] = (),
    limits: ChildLimits | None = None,
    about: str | None = None,
) -> Message:
    """Run `function(*args)` in a child and give its result; with `fds` it is `function(*args, fds=(...))`.

    Raises:
        MasqueradeError: what the function raised; DecoderDied when it crashed; DecodeTimeout when a clock stopped it;
            MediaLimitExceeded when it wanted more memory than it may have; Internal when it has a fault of ours.
    """
    stream = ChildStream(_name(function), limits or ChildLimits(), about)
    try:
        await stream.open("call", args, fds)
        async for _ in stream:
            pass
        return stream.result
    finally:
        await stream.close()


def _name(function: Callable[..., Any]) -> str:
    if "<" in function.__qualname__:
        raise ValueError(f"{function.__qualname__} cannot be found by its name from another process")
    return f"{function.__module__}:{function.__qualname__}"
