"""Which addresses a link may lead to: every way of writing "here" is refused."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from services.common.errors import LinkRefused, LinkUnreachable
from services.ingest.addresses import Reach, is_public, resolved

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.251",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2606:4700::1%1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_of_the_public_internet_is_refused(text):
    assert not is_public(ipaddress.ip_address(text))
    assert not Reach().allows(ipaddress.ip_address(text), 443)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_reached_on_the_ports_of_the_web_alone(text):
    address = ipaddress.ip_address(text)
    assert [Reach().allows(address, port) for port in (80, 443, 22, 25, 6379, 8080)] == [True, True] + [False] * 4


def test_a_network_that_the_operator_names_is_reached_on_any_port_and_its_neighbours_are_not():
    reach = Reach.of(["10.1.0.0/16", "fd00::/8"])
    asked = ("10.1.2.3", "::ffff:10.1.2.3", "fd00::5", "10.2.0.1", "127.0.0.1")
    assert [reach.allows(ipaddress.ip_address(text), 8080) for text in asked] == [True, True, True, False, False]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "0", "①②⑦.⓪.⓪.①", "::1"]
)
def test_every_way_to_write_this_machine_is_refused(host):
    with pytest.raises(LinkRefused, match="no address of the public internet"):
        resolved(host, 80, Reach(), link="http://x/")


def answers(*addresses: str):
    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


def test_one_private_address_among_public_ones_is_enough_to_refuse_a_name(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answers("93.184.216.34", "10.0.0.5"))
    with pytest.raises(LinkRefused, match=r"10\.0\.0\.5"):
        resolved("video.test", 443, Reach(), link="https://video.test/a.mp4")
    monkeypatch.setattr(socket, "getaddrinfo", answers("93.184.216.34", "1.1.1.1"))
    assert len(resolved("video.test", 443, Reach(), link="https://video.test/a.mp4")) == 2


def test_a_name_that_nobody_knows_is_unreachable(monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(LinkUnreachable, match=r"no host video\.test"):
        resolved("video.test", 443, Reach(), link="https://video.test/a.mp4")
