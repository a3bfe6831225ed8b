"""Which network addresses a link may lead to: those of the public internet, and networks that an operator names.

Addresses are judged, never names or texts: `0x7f000001`, `2130706433` and `①②⑦.⓪.⓪.①` are all 127.0.0.1 to a resolver.
Python's `is_global` alone does not do: it takes NAT64, 6to4 and multicast addresses for global, and behind the first
two lies whatever IPv4 address they carry.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from services.common.errors import LinkRefused, LinkUnreachable

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS: Final = (80, 443)
"""Of the web. Behind others are mail, databases and caches that would take a request for a command."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
"""All that has been given out for unicast; what lies outside is local, reserved or carries another address."""

_REFUSED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # for protocols; holds a cloud's metadata service
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # public by number, but a cloud answers its own machines there
        "2001::/23",  # Teredo, ORCHID and others for protocols
        "2001:db8::/32",  # for documents
        "2002::/16",  # 6to4: carries any IPv4 address
        "3fff::/20",  # for documents
    )
)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far links may lead.

    Attributes:
        networks: allowed although they are not public, on any port.
    """

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """From networks as an operator writes them; ValueError if one is none."""
        return cls(tuple(ipaddress.ip_network(text) for text in texts))

    def allows(self, address: Address, port: int) -> bool:
        """Whether a connection may be made to this address and port."""
        plain = _plain(address)
        if any(plain in network for network in self.networks if network.version == plain.version):
            return True
        return port in PORTS and is_public(address)


def is_public(address: Address) -> bool:
    """Whether it is a unicast address of the public internet, whichever way it is written."""
    plain = _plain(address)
    if isinstance(plain, ipaddress.IPv6Address):
        if plain in _NAT64:
            return is_public(ipaddress.IPv4Address(int(plain) & 0xFFFFFFFF))
        if plain.scope_id is not None or plain not in _GLOBAL_V6:
            return False
    if plain.is_multicast or plain.is_reserved or plain.is_unspecified or not plain.is_global:
        return False
    return not any(plain in network for network in _REFUSED if network.version == plain.version)


def _plain(address: Address) -> Address:
    """IPv4 written as IPv6 is IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def resolved(host: str, port: int, reach: Reach, *, link: str) -> list[tuple[int, tuple[Any, ...]]]:
    """Family and socket address of each place that a host stands for, asked once; the answers are what is connected to.

    Raises:
        LinkUnreachable: there is no such host.
        LinkRefused: one of its addresses is out of reach. One is enough: a name that has a private address beside a
            public one wants us to try both.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise LinkUnreachable(link=link, detail=f"there is no host {host}") from error
    places: list[tuple[int, tuple[Any, ...]]] = [(family, where) for family, _, _, _, where in found]
    for _, where in places:
        check(where, reach, link=link)
    return places


def check(where: tuple[Any, ...], reach: Reach, *, link: str) -> None:
    """Refuse a socket address that is out of reach, or that is still a name.

    Raises:
        LinkRefused: with what is wrong.
    """
    try:
        address, port = ipaddress.ip_address(str(where[0])), int(where[1])
    except (ValueError, IndexError):
        raise LinkRefused(link=link, problem="it leads to something that is no internet address") from None
    if reach.allows(address, port):
        return
    if port not in PORTS and is_public(address):
        raise LinkRefused(link=link, problem=f"port {port} is none of the web's ({PORTS[0]} and {PORTS[1]})")
    raise LinkRefused(link=link, problem=f"it leads to {address}, which is no address of the public internet")
