"""The process from which children are forked: `python -m services.common.nursery DESCRIPTOR`.

A service cannot fork itself: gRPC and its threads do not survive it. So a small process without threads loads the
decoders once and forks a child for each piece of hostile bytes, which costs milliseconds instead of the half second of
a new interpreter. Python's own `forkserver` would do the same, but makes each child import the service's main module.

The parent asks over a Unix socket and passes descriptors with each request: the child's end of its conversation, a
status line, and what else the child needs. On the status line this process writes the exit status of the child; when
the parent closes its end, or dies, the child is killed. Only this process reaps, so nobody kills a recycled process id.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.child_wire import Channel, MalformedMessageError
from services.common.error_base import MasqueradeError

REQUEST_BYTES = 16384
FDS_AT_MOST = 16
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
EXIT = struct.Struct("!i")
EXIT_MEMORY = 72
"""Exit status of a child that had no memory left, not even to say so."""

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(slots=True)
class _Born:
    pid: int
    status: socket.socket
    is_watched: bool = True


class Nursery:
    """Forks on request, reaps, reports."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, _Born] = {}
        self._unread = b""
        self._waiting_fds: list[int] = []

    def serve(self) -> None:
        """Until the parent closes its end."""
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        # Ctrl-C and a stop signal reach the whole process group; what they mean to children is the parent's decision.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._selector.register(self._control, selectors.EVENT_READ, None)
        self._selector.register(woken, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    if not self._take_requests():
                        self._kill_all()
                        return
                elif key.fileobj is woken:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                    self._reap()
                elif key.data.pid in self._children:
                    self._kill(key.data)

    def _take_requests(self) -> bool:
        received, fds, _, _ = socket.recv_fds(self._control, REQUEST_BYTES, FDS_AT_MOST)
        self._waiting_fds += fds
        self._unread += received
        while b"\n" in self._unread:
            line, self._unread = self._unread.split(b"\n", 1)
            request = json.loads(line)
            count = request["fds"]
            fds, self._waiting_fds = self._waiting_fds[:count], self._waiting_fds[count:]
            self._fork(request, fds)
        return bool(received)

    def _fork(self, request: dict[str, Any], fds: list[int]) -> None:
        with contextlib.suppress(Exception):
            # Loaded here, before the fork, so that the next child finds it; its failure is the child's to report.
            importlib.import_module(request["function"].partition(":")[0])
        if "connection" not in request:
            return
        gc.freeze()
        nursery = os.getpid()
        pid = os.fork()
        if pid == 0:
            _live(request, fds, nursery)
        for fd in (fds[0], *fds[2:]):
            os.close(fd)
        born = _Born(pid, socket.socket(fileno=fds[1]))
        self._children[pid] = born
        self._selector.register(born.status, selectors.EVENT_READ, born)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            born = self._children.pop(pid, None)
            if born is None:
                continue
            if born.is_watched:
                self._selector.unregister(born.status)
            with contextlib.suppress(OSError):
                born.status.send(EXIT.pack(os.waitstatus_to_exitcode(status)))
            born.status.close()

    def _kill(self, born: _Born) -> None:
        self._selector.unregister(born.status)
        born.is_watched = False
        os.kill(born.pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        for born in self._children.values():
            os.kill(born.pid, signal.SIGKILL)
        for born in list(self._children.values()):
            os.waitpid(born.pid, 0)


def _live(request: dict[str, Any], fds: list[int], nursery: int) -> None:
    """The whole life of a child; never returns."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with(nursery)
        connection, _, *passed = fds
        _keep_only({0, 1, 2, connection, *passed})
        sys.unraisablehook = _end_without_memory
        _limit(request["limits"], passed)
        channel = Channel(socket.socket(fileno=connection), tuple(passed))
        code = _run(request["function"], channel, request["shape"])
        _hear_out(channel)
    except MemoryError:
        code = EXIT_MEMORY
    except BaseException:  # noqa: BLE001  # a forked copy must never go back into the nursery's loop
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    if _LIBC is None:
        return
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(71)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as adjust:
        # When the machine runs out of memory the child that reads hostile bytes goes first, not the service.
        adjust.write("500")


def _keep_only(kept: set[int]) -> None:
    """Close every other descriptor: a child that is taken over finds nothing but its own conversation."""
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        if fd not in kept:
            with contextlib.suppress(OSError):
                os.close(fd)


def _limit(limits: dict[str, int], passed: Sequence[int]) -> None:
    shared = sum(os.fstat(fd).st_size for fd in passed)
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            mapped = int(statm.read().split()[0]) * resource.getpagesize()
        _set(resource.RLIMIT_AS, mapped + shared + limits["memory_bytes"])
    _set(resource.RLIMIT_CPU, limits["cpu_s"], limits["cpu_s"] + 2)
    _set(resource.RLIMIT_FSIZE, limits["file_bytes"])
    _set(resource.RLIMIT_NOFILE, limits["open_files"])
    _set(resource.RLIMIT_CORE, 0)


def _set(which: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(which)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))


def _run(name: str, channel: Channel, shape: str) -> int:
    try:
        args = channel.receive()
        function = _resolve(name)
        if shape == "stream":
            result = function(channel, *args)
        elif channel.fds:
            result = function(*args, fds=channel.fds)
        else:
            result = function(*args)
        channel.write(["result", result])
    except MasqueradeError as error:
        violations = [[violation.field, violation.problem] for violation in error.violations]
        channel.write(["error", error.reason, error.fields, error.own_remedy, violations])
    except MemoryError:
        channel.write(["memory"])
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The parent left: there is nobody to tell.
        return 0
    except Exception as error:  # noqa: BLE001  # the parent makes it an Internal that names it
        if _is_want_of_memory(error):
            channel.write(["memory"])
            return 0
        channel.write(["bug", f"{type(error).__name__}: {error}", traceback.format_exc()])
    return 0


def _is_want_of_memory(error: Exception) -> bool:
    """Whether an error is another word for MemoryError: FFmpeg's own, or a thread whose stack did not fit."""
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOMEM, errno.EAGAIN) or str(error) == "can't start new thread"


def _end_without_memory(unraisable: sys.UnraisableHookArgs) -> None:
    """An error that could not rise: C code swallowed it and goes on, perhaps to the same error, perhaps for ever."""
    if issubclass(unraisable.exc_type, MemoryError):
        os._exit(EXIT_MEMORY)
    sys.__unraisablehook__(unraisable)


def _hear_out(channel: Channel) -> None:
    """Stay until the parent hangs up: if its next word broke the pipe, it would lose our last ones unread."""
    with contextlib.suppress(OSError, MalformedMessageError):
        for _ in channel:
            continue


def _resolve(name: str) -> Callable[..., Any]:
    module_name, _, path = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


if __name__ == "__main__":
    Nursery(socket.socket(fileno=int(sys.argv[1]))).serve()
