"""What a child that fetches may do, seen to at the interpreter's own events: the library in it is large, we are not it.

An audit hook cannot be taken off again, so this is for a child that ends with its one task. It holds a library to its
word, in every route that it may take (redirects, playlists, segments, embedded links); it is no cage for hostile code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

from services.common.errors import LinkRefused
from services.ingest.addresses import Reach, check

_PROGRAMS: Final = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.")
_ELSEWHERE: Final = frozenset({"socket.bind", "socket.sendto"})
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """The hook: connections within reach, files within the folder, no program, no other way out.

    Attributes:
        refusal: the first connection that was refused, for whoever finds that a library took it for bad weather.
    """

    def __init__(self, folder: Path, reach: Reach, *, link: str) -> None:
        self._folder = f"{folder.resolve()}{os.sep}"
        self._reach = reach
        self._link = link
        self.refusal: LinkRefused | None = None

    def stand(self) -> None:
        """From now on, and until the process ends."""
        # Written bytecode would be refused a hundred times over.
        sys.dont_write_bytecode = True
        # Speaks HTTP by a library of its own, past every event.
        sys.modules["curl_cffi"] = None  # type: ignore[assignment]
        sys.addaudithook(self._look)

    def _look(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            self._connects(args[1])
        elif event == "socket.sendmsg":
            if args[1] is not None:
                raise PermissionError("datagrams are not sent from here")
        elif event in _ELSEWHERE:
            raise PermissionError(f"{event} is not done from here")
        elif event.startswith(_PROGRAMS):
            # An OSError: a library takes it for a program that is not installed.
            raise PermissionError("no other program is run from here")
        elif event == "open":
            self._opens(args[0], args[2])

    def _connects(self, where: Any) -> None:
        try:
            check(where if isinstance(where, tuple) else (), self._reach, link=self._link)
        except LinkRefused as refusal:
            self.refusal = self.refusal or refusal
            raise PermissionError(refusal.text()) from None

    def _opens(self, path: Any, flags: Any) -> None:
        if not isinstance(flags, int) or not flags & _WRITING or not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        if name != os.devnull and not os.path.realpath(name).startswith(self._folder):
            raise PermissionError(f"nothing is written outside of {self._folder}")
