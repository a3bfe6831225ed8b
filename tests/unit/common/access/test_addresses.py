"""Which addresses only this machine reaches."""

from __future__ import annotations

import pytest

from services.common.access.addresses import is_local

LOCAL = ("127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/run/s", "unix-abstract:s")
REACHED = (
    *("0.0.0.0:1", "[::]:1", ":1", "10.0.0.1:1", "192.168.0.1:1", "[fe80::1]:1", "example.org:1", "1"),
    *("localhost.example.org:1", "127.0.0.1.example.org:1", "[::ffff:10.0.0.1]:1", "dns:///127.0.0.1:1", "0:1"),
)


@pytest.mark.parametrize("address", LOCAL)
def test_nobody_else_reaches(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize("address", REACHED)
def test_others_reach_or_may(address: str) -> None:
    assert not is_local(address)
