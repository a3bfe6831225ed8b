"""Which addresses only this machine reaches."""

from __future__ import annotations

import ipaddress


def is_socket(address: str) -> bool:
    """Whether it is a unix socket."""
    return address.startswith(("unix:", "unix-abstract:"))


def is_local(address: str) -> bool:
    """Whether nobody outside this machine reaches it: a unix socket, or host:port on the loopback network."""
    if is_socket(address):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name may mean anything tomorrow; no host at all means all of them.
        return False
