"""Ports for servers that are told where to listen."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket

FIRST, LAST = 20_000, 32_000
"""Below the ports that the system gives to whoever asks for any."""

_OWN = 4_000
"""Ports of one worker: those that run tests beside each other must not find the same ones free."""

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % ((LAST - FIRST) // _OWN)
_BEGIN = FIRST + _WORKER * _OWN
_offsets = itertools.cycle(range(os.getpid() % _OWN, _OWN + os.getpid() % _OWN))


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on, or nearly surely so; each call gives others."""
    for _ in range(_OWN):
        offset = next(_offsets) % _OWN
        if offset + count > _OWN:
            continue
        first = _BEGIN + offset
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            for _ in range(count):
                next(_offsets)
            return first
    raise AssertionError("no ports are free")
