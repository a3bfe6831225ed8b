"""The wire: TLS on the public address, both sides shown between services, certificates renewed while calls run."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from cryptography import x509

from services.common import errors
from services.common.access.certificates import Watched, read
from services.common.channels import build_channel
from services.common.server import Server
from tests.contract.toy import NAME, Toy, ask, served
from tests.support.callers import Door, bearer, public_toy
from tests.support.certificates import Papers, after

_OWN = itertools.count()


@asynccontextmanager
async def stranger(
    target: str, roots: bytes | None, *, key: bytes | None = None, chain: bytes | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """A client of any other library: it trusts these roots, and shows a certificate or none."""
    credentials = grpc.ssl_channel_credentials(roots, key, chain)
    # Two channels to one target share a connection unless their options differ.
    options = [("test.own_connection", next(_OWN))]
    async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
        yield channel


async def says(channel: grpc.aio.Channel, key: str) -> bytes:
    return await ask(channel, "Unary", b"x", metadata=bearer(key), timeout=5)


async def is_refused(channel: grpc.aio.Channel, key: str) -> None:
    """The connection does not come about."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await says(channel, key)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_calls_with_tls_are_served_and_others_are_not(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "tls")
    roots = papers.ca.cert_pem.bytes()
    async with public_toy(tmp_path, **papers.public) as door:
        key = await door.key()
        async with stranger(door.server.target, roots) as channel:
            assert await says(channel, key) == b"x"
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await ask(channel, "Unary", b"x", timeout=5)
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED, "TLS alone is no key"
        async with stranger(door.server.target, trustme.CA().cert_pem.bytes()) as channel:
            await is_refused(channel, key)
        async with grpc.aio.insecure_channel(door.server.target) as channel:
            await is_refused(channel, key)


async def test_a_client_whose_name_for_us_is_another_refuses_us(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "tls")
    papers.renew(host="masquerade.example")
    roots = papers.ca.cert_pem.bytes()
    async with public_toy(tmp_path, **papers.public) as door, stranger(door.server.target, roots) as channel:
        await is_refused(channel, await door.key())


async def test_without_a_certificate_of_its_own_a_client_is_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    papers, clients = Papers(tmp_path / "tls"), trustme.CA()
    roots = papers.ca.cert_pem.bytes()
    (tmp_path / "clients.crt").write_bytes(clients.cert_pem.bytes())
    async with public_toy(tmp_path, **papers.public, tls_client_ca=str(tmp_path / "clients.crt")) as door:
        key = await door.key()

        async def shows(issued: trustme.LeafCert | None) -> bool:
            shown = {}
            if issued is not None:
                chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
                shown = {"key": issued.private_key_pem.bytes(), "chain": chain}
            async with stranger(door.server.target, roots, **shown) as channel:
                try:
                    return await says(channel, key) == b"x"
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNAVAILABLE:
                        return False
                    raise

        assert await shows(clients.issue_cert("client@studio.example"))
        assert not await shows(None)
        assert not await shows(trustme.CA().issue_cert("client@studio.example"))
        assert not await shows(clients.issue_cert("client@studio.example", not_after=after(-1), not_before=after(-2)))


async def serial_of(server: Server) -> int:
    """Serial number of the certificate that a new connection is shown."""
    host, _, port = server.target.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])

    def shown() -> bytes | None:
        with socket.create_connection((host, int(port)), timeout=5) as plain, context.wrap_socket(plain) as connected:
            return connected.getpeercert(binary_form=True)

    return x509.load_der_x509_certificate(await asyncio.to_thread(shown) or b"").serial_number


def serial_in(papers: Papers) -> int:
    return x509.load_pem_x509_certificate(papers.certificate.read_bytes()).serial_number


async def test_a_renewed_certificate_is_shown_to_new_connections_while_old_ones_live(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "tls")
    first = papers.ca.cert_pem.bytes()
    async with public_toy(tmp_path, **papers.public) as door:
        key = await door.key()
        async with stranger(door.server.target, first) as old:
            make: Any = old.stream_stream(f"/{NAME}/Bidi")
            stream = make(metadata=bearer(key), timeout=30)
            await stream.write(b"before")
            assert await stream.read() == b"before"
            before = serial_in(papers)
            assert await serial_of(door.server) == before

            papers.renew(ca=trustme.CA())
            assert await serial_of(door.server) == serial_in(papers) != before
            async with stranger(door.server.target, papers.ca.cert_pem.bytes()) as new:
                assert await says(new, key) == b"x"
            async with stranger(door.server.target, first) as late:
                await is_refused(late, key)

            await stream.write(b"after")
            assert await stream.read() == b"after", "a stream that ran goes on"
            assert await says(old, key) == b"x", "new calls on the old connection as well"
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF


async def test_half_of_a_renewal_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    papers, other = Papers(tmp_path / "tls"), Papers(tmp_path / "other")
    async with public_toy(tmp_path, **papers.public) as door:
        before = serial_in(papers)
        key = papers.key.read_bytes()
        papers.key.write_bytes(other.key.read_bytes())
        assert await serial_of(door.server) == before
        assert "is the key of another certificate" in caplog.text
        papers.certificate.unlink()
        assert await serial_of(door.server) == before
        papers.certificate.write_bytes(other.certificate.read_bytes())
        assert await serial_of(door.server) == serial_in(other), "both halves are there"
        papers.renew(ends_days=-1)
        assert await serial_of(door.server) == serial_in(other), "one that has expired is not taken"
        assert "expired on" in caplog.text
        assert key.decode().splitlines()[1] not in caplog.text


async def test_a_client_authority_that_is_taken_away_ends_its_clients(tmp_path: Path) -> None:
    papers, clients = Papers(tmp_path / "tls"), trustme.CA()
    roots, client_ca = papers.ca.cert_pem.bytes(), tmp_path / "clients.crt"
    client_ca.write_bytes(clients.cert_pem.bytes())
    issued = clients.issue_cert("client@studio.example")
    shown = {"key": issued.private_key_pem.bytes(), "chain": issued.cert_chain_pems[0].bytes()}
    async with public_toy(tmp_path, **papers.public, tls_client_ca=str(client_ca)) as door:
        key = await door.key()
        async with stranger(door.server.target, roots, **shown) as channel:
            assert await says(channel, key) == b"x"
        client_ca.write_bytes(trustme.CA().cert_pem.bytes())
        async with stranger(door.server.target, roots, **shown) as channel:
            await is_refused(channel, key)


# Between services.


async def test_services_show_each_other_certificates_of_one_authority(tmp_path: Path) -> None:
    ours, theirs = Papers(tmp_path / "ours"), Papers(tmp_path / "theirs")
    async with served(Toy(), **ours.mesh) as (server, plain):
        with pytest.raises(errors.Unavailable):
            await ask(plain, "Unary", b"x", timeout=5)
        peer = Papers(tmp_path / "peer", ca=ours.ca)
        for papers, is_served in ((peer, True), (theirs, False)):
            async with build_channel(server.target, peer="toy", tls=papers.channel(), is_retried=False) as channel:
                for method in ("Unary", "Bidi") if is_served else ():
                    assert await ask(channel, method, b"x,y", timeout=5) == b"x,y"
                if not is_served:
                    with pytest.raises(errors.Unavailable):
                        await ask(channel, "Unary", b"x", timeout=5)
        async with stranger(server.target, ours.ca.cert_pem.bytes()) as channel:
            await is_refused(channel, "msq_")


async def test_a_unix_socket_needs_no_certificate(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "tls")
    async with served(Toy(), listen=f"unix:{tmp_path}/s", **papers.mesh) as (server, channel):
        assert await ask(channel, "Unary", b"x") == b"x"
        async with build_channel(server.target, tls=papers.channel()) as named:
            assert await ask(named, "Unary", b"x") == b"x"


async def test_a_channel_shows_its_renewed_certificate_without_losing_a_call(tmp_path: Path) -> None:
    """Both sides move to another authority, one after the other, while a stream runs and calls come."""
    server_papers, client_papers = Papers(tmp_path / "server"), Papers(tmp_path / "client")
    client_papers.renew(ca=server_papers.ca)
    async with contextlib.AsyncExitStack() as stack:
        server, _ = await stack.enter_async_context(served(Toy(), **server_papers.mesh))
        async with build_channel(server.target, peer="toy", tls=client_papers.channel()) as channel:
            unary: Any = channel.unary_unary(f"/{NAME}/Unary")
            make: Any = channel.stream_stream(f"/{NAME}/Bidi")
            stream = make()
            await stream.write(b"before")
            assert await stream.read() == b"before"
            old = channel.current  # type: ignore[attr-defined]

            authority = trustme.CA()
            server_papers.renew(ca=authority)
            assert await unary(b"x", timeout=5) == b"x", "the old connection is still there"
            client_papers.renew(ca=authority)
            assert await unary(b"x", timeout=5) == b"x"
            assert channel.current is not old  # type: ignore[attr-defined]
            await stream.write(b"after")
            assert await stream.read() == b"after"
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF


# Starting.


async def test_plain_text_beyond_this_machine_is_refused_unless_somebody_says_that_it_is_meant(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidSetting) as raised:
        async with public_toy(tmp_path, public_listen="0.0.0.0:0"):
            raise AssertionError("it opened")
    assert raised.value.fields["setting"] == "public_listen"
    assert "tls_offloaded" in raised.value.remedy
    async with public_toy(tmp_path, public_listen="0.0.0.0:0", tls_offloaded=True) as door:
        assert await says_plainly(door)
    papers = Papers(tmp_path / "tls")
    roots = papers.ca.cert_pem.bytes()
    async with (
        public_toy(tmp_path, public_listen="0.0.0.0:0", **papers.public) as door,
        stranger(door.server.target, roots) as channel,
    ):
        assert await says(channel, await door.key()) == b"x"


async def says_plainly(door: Door) -> bool:
    return await says(door.channel, await door.key()) == b"x"


async def test_an_expired_certificate_is_refused_at_the_start_with_its_date(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "tls", ends_days=-2)
    day = after(-2).strftime("%Y-%m-%d")
    with pytest.raises(errors.InvalidSetting, match=f"expired on {day}") as raised:
        async with public_toy(tmp_path, **papers.public):
            raise AssertionError("it opened")
    assert raised.value.fields["setting"] == "tls_certificate"
    with pytest.raises(errors.InvalidSetting, match=f"expired on {day}"):
        async with served(Toy(), **papers.mesh):
            raise AssertionError("it opened")


def test_what_is_read_is_what_the_files_hold(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "tls")
    pems = read(papers.files(), now=after(0))
    assert (pems.certificate, pems.key) == (papers.certificate.read_bytes(), papers.key.read_bytes())
    watched = Watched(papers.files())
    assert watched.current() is watched.current()
