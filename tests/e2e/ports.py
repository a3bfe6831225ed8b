"""Ports for servers that are told where to listen."""

from __future__ import annotations

import contextlib
import os
import socket


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on, or nearly surely so."""
    for first in range(23_000 + os.getpid() % 6_000, 32_000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no ports are free")
