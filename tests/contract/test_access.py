"""Who may call: a public door with a toy behind it, real sockets, and everybody who has no business there."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import itertools
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
import sqlalchemy as sa
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from services.common import errors
from services.common.access import keys
from services.common.access.callers import current_caller
from services.common.access.door import RECEIVED_BYTES
from services.common.access.refusals import LINES
from services.common.channels import build_channel
from services.common.logs import current_log_fields
from services.common.records import tables
from tests.contract.toy import METHODS, NAME, Toy, ask
from tests.support.bad_tokens import BAD_TOKENS
from tests.support.callers import Door, Issuer, bearer, public_toy

every_kind = pytest.mark.parametrize("method", list(METHODS))
MiB = 1 << 20


async def who(_request: bytes, _context: Any) -> bytes:
    """Answers with who called."""
    caller = current_caller()
    return f"{caller.tenant} {caller.actor} {current_log_fields().get('tenant')}".encode()


async def refusal(door: Door, metadata: Any = None, method: str = "Unary") -> errors.Unauthenticated:
    """Why a call is refused."""
    with pytest.raises(errors.Unauthenticated) as raised:
        await ask(door.channel, method, b"a", metadata=metadata)
    return raised.value


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    """What RetryInfo says."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    (info,) = [detail for detail in status.details if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)]
    retry = error_details_pb2.RetryInfo()
    info.Unpack(retry)
    return float(retry.retry_delay.ToNanoseconds() / 1e9)


# Keys.


@every_kind
async def test_a_key_says_whose_things_a_call_may_see(method: str, tmp_path: Path) -> None:
    async with public_toy(tmp_path, Toy(who)) as door:
        key = await door.key("studio")
        (row,) = await keys.list_keys(door.records)
        answer = await ask(door.channel, method, b"a", metadata=bearer(key))
        assert answer == f"studio key:{row.id} studio".encode()


@every_kind
async def test_without_a_key_nothing_is_served(method: str, tmp_path: Path) -> None:
    served = []

    async def note(request: bytes, _context: Any) -> bytes:
        served.append(request)
        return request

    async with public_toy(tmp_path, Toy(note)) as door:
        assert "no key" in str(await refusal(door, method=method))
        labels = {"grpc_service": NAME, "grpc_method": method, "grpc_code": "Unauthenticated"}
        kind = {"Unary": "unary", "ServerStream": "server_stream", "ClientStream": "client_stream"}.get(method)
        await asyncio.sleep(0.01)
        counted = REGISTRY.get_sample_value("grpc_server_handled_total", {**labels, "grpc_type": kind or "bidi_stream"})
        assert counted
    assert served == []


def _changed(text: str, place: int) -> str:
    other = "a" if text[place] != "a" else "b"
    return text[:place] + other + text[place + 1 :]


BAD_KEYS: dict[str, Callable[[str], Any]] = {
    "another id": lambda key: bearer(_changed(key, 6)),
    "another secret": lambda key: bearer(_changed(key, 40)),
    "another check": lambda key: bearer(_changed(key, 90)),
    "cut": lambda key: bearer(key[:-1]),
    "longer": lambda key: bearer(key + "a"),
    "capitals": lambda key: bearer(key[:4] + key[4:].upper()),
    "only the prefix": lambda key: bearer("msq_"),
    "a line more": lambda key: [("authorization", f"Bearer {key} x")],
    "no scheme": lambda key: [("authorization", key)],
    "another scheme": lambda key: [("authorization", f"Basic {key}")],
    "nothing after the scheme": lambda key: [("authorization", "Bearer ")],
    "twice": lambda key: bearer(key) * 2,
    "under another name": lambda key: [("x-api-key", key)],
    "neither key nor token": lambda key: bearer("hello"),
    "a token where none are taken": lambda key: bearer("a.b.c"),
}


@pytest.mark.parametrize("variant", list(BAD_KEYS))
async def test_a_key_that_is_not_whole_is_refused_and_not_repeated(variant: str, tmp_path: Path) -> None:
    async with public_toy(tmp_path) as door:
        key = await door.key()
        told = str(await refusal(door, BAD_KEYS[variant](key)))
        assert not any(part in told for part in (key[8:30], key[31:60]))
        assert await ask(door.channel, "Unary", b"a", metadata=bearer(key)) == b"a"


async def test_keys_of_another_installation_cost_no_look_into_the_database(tmp_path: Path) -> None:
    async with public_toy(tmp_path) as door:
        _, foreign = await keys.make(door.records, b"another secret", tenant="studio", actor="test")
        looks = []
        read = door.records.read

        async def counted(work: Any) -> Any:
            looks.append(work)
            return await read(work)

        door.records.read = counted  # type: ignore[method-assign]
        assert "not one of this installation" in str(await refusal(door, bearer(foreign)))
        assert looks == []
        own = await door.key()
        await asyncio.gather(*(ask(door.channel, "Unary", b"a", metadata=bearer(own)) for _ in range(20)))
        assert len(looks) == 1, "many calls with one key are one look"


async def test_an_expired_key_is_refused(tmp_path: Path) -> None:
    async with public_toy(tmp_path, keys_cached_s=0) as door:
        now_ms = time.time_ns() // 1_000_000
        key = await door.key(expires_ms=now_ms + 60_000)
        assert await ask(door.channel, "Unary", b"a", metadata=bearer(key)) == b"a"
        ended = sa.update(tables.keys).values(expires_ms=now_ms)
        await door.records.write(lambda connection: connection.execute(ended).rowcount)
        assert "expired" in str(await refusal(door, bearer(key)))


async def test_a_revoked_key_ends_within_the_time_for_which_keys_are_believed(tmp_path: Path) -> None:
    async with public_toy(tmp_path, keys_cached_s=0.4) as door:
        key = await door.key()
        assert await ask(door.channel, "Unary", b"a", metadata=bearer(key)) == b"a"
        (row,) = await keys.list_keys(door.records)
        await keys.revoke(door.records, row.id, actor="test")
        await asyncio.sleep(0.4)
        assert "revoked" in str(await refusal(door, bearer(key)))
        (line,) = await door.lines("call.refused")
        assert (line.tenant, line.actor, line.decision) == ("studio", f"key:{row.id}", "refused")


async def test_a_database_that_is_away_lets_nobody_in_and_the_next_call_asks_again(tmp_path: Path) -> None:
    async with public_toy(tmp_path) as door:
        key = await door.key()
        read = door.records.read

        async def away(_work: Any) -> Any:
            raise errors.Unavailable(peer="the records' database")

        door.records.read = away  # type: ignore[method-assign]
        with pytest.raises(errors.Unavailable):
            await ask(door.channel, "Unary", b"a", metadata=bearer(key))
        door.records.read = read  # type: ignore[method-assign]
        assert await ask(door.channel, "Unary", b"a", metadata=bearer(key)) == b"a"


# Tokens.


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_says_tenant_and_subject(algorithm: str, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    async with public_toy(tmp_path, Toy(who), **issuer.settings) as door:
        answer = await ask(door.channel, "Unary", b"a", metadata=bearer(issuer.token(algorithm)))
        assert answer == b"studio jwt:anna studio"
        assert await ask(door.channel, "Unary", b"a", metadata=bearer(await door.key("other")))


@pytest.mark.parametrize("variant", list(BAD_TOKENS))
async def test_a_token_that_does_not_hold_is_refused_with_its_reason(variant: str, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    issuer = Issuer(tmp_path)
    make, word = BAD_TOKENS[variant]
    token = make(issuer)
    async with public_toy(tmp_path, **issuer.settings) as door:
        refused = await refusal(door, bearer(token))
        assert word in refused.fields["problem"]
        assert not any(part in str(refused) for part in token.split(".") if len(part) > 3)
        assert not any(word in str(refused) for word in ("evil", "payroll", "../", "root", "tomorrow", "k9"))


async def test_a_leeway_is_a_leeway(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    async with public_toy(tmp_path, **issuer.settings) as door:
        now = int(time.time())
        for token in (issuer.token(exp=now - 20), issuer.token(nbf=now + 20, iat=now + 20)):
            assert await ask(door.channel, "Unary", b"a", metadata=bearer(token)) == b"a"


async def test_the_issuers_keys_are_read_again_when_they_change(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    async with public_toy(tmp_path, **issuer.settings) as door:
        token = issuer.token("EdDSA")
        assert await ask(door.channel, "Unary", b"a", metadata=bearer(token)) == b"a"
        issuer.path.write_text("half of a fi")
        assert await ask(door.channel, "Unary", b"a", metadata=bearer(token)) == b"a"
        issuer.publish({"RS256": issuer.private["RS256"]})
        assert "kid" in str(await refusal(door, bearer(token)))
        # The only key there is needs no name.
        unnamed = issuer.token("RS256", headers={"kid": None})
        assert await ask(door.channel, "Unary", b"a", metadata=bearer(unnamed)) == b"a"


# Refusals are told, but not as often as they happen.


async def test_a_flood_of_refused_calls_does_not_fill_the_audit_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def counted() -> float:
        return REGISTRY.get_sample_value("masquerade_calls_refused_total", {"problem": "nothing_shown"}) or 0.0

    async with public_toy(tmp_path) as door:
        before, flood = counted(), 300
        await asyncio.gather(*(refusal(door) for _ in range(flood)))
        lines = await door.lines("call.refused")
        assert len(lines) == LINES
        assert counted() - before == flood
        assert json.loads(lines[0].details)["problem"] == "nothing_shown"
        assert lines[0].object == f"{NAME}/Unary"
        assert len([record for record in caplog.records if "not known" in record.getMessage()]) == 0


async def test_refused_calls_are_not_read(tmp_path: Path) -> None:
    """Ten strangers send a message each that is far beyond what is taken; nothing of it is asked for."""
    async with public_toy(tmp_path) as door:
        for _ in range(10):
            with pytest.raises(errors.Unauthenticated):
                await ask(door.channel, "Unary", bytes(RECEIVED_BYTES + 1))
        key = bearer(await door.key())
        with pytest.raises(errors.Overloaded):
            await ask(door.channel, "Unary", bytes(RECEIVED_BYTES + 1), metadata=key)


# Tenants.


async def test_another_tenants_thing_is_not_found(tmp_path: Path) -> None:
    things = {("a", b"asset_1"): b"of a"}

    async def get(request: bytes, _context: Any) -> bytes:
        thing = things.get((current_caller().tenant, request))
        if thing is None:
            raise errors.AssetNotFound(asset=request.decode())
        return thing

    async with public_toy(tmp_path, Toy(get)) as door:
        a, b = bearer(await door.key("a")), bearer(await door.key("b"))
        assert await ask(door.channel, "Unary", b"asset_1", metadata=a) == b"of a"
        told = []
        for name in (b"asset_1", b"asset_9"):
            with pytest.raises(errors.AssetNotFound) as raised:
                await ask(door.channel, "Unary", name, metadata=b)
            told.append(str(raised.value).replace(name.decode(), "X"))
        assert told[0] == told[1], "nobody can tell another's thing from one that does not exist"


async def test_a_caller_does_not_choose_its_tenant_by_metadata(tmp_path: Path) -> None:
    async with public_toy(tmp_path, Toy(who)) as door:
        metadata = [*bearer(await door.key("a")), ("tenant", "b"), ("masquerade-tenant", "b")]
        assert (await ask(door.channel, "Unary", b"x", metadata=metadata)).startswith(b"a ")


async def test_callers_at_the_same_time_are_not_mixed_up(tmp_path: Path) -> None:
    async def slowly(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.02)
        return (await who(request, context)).split()[0]

    async with public_toy(tmp_path, Toy(slowly)) as door:
        shown = {tenant: bearer(await door.key(tenant)) for tenant in ("a", "b", "c")}

        async def call(tenant: str) -> bool:
            return await ask(door.channel, "Bidi", b"x,y", metadata=shown[tenant]) == f"{tenant},{tenant}".encode()

        assert all(await asyncio.gather(*(call(tenant) for tenant in "abc" * 4)))


# Rates and places.


async def call_often(channel: grpc.aio.Channel, metadata: Any) -> None:
    """Ten calls as fast as they go."""
    for _ in range(10):
        await ask(channel, "Unary", b"x", metadata=metadata, timeout=5)


async def test_one_tenants_flood_ends_at_its_own_rate(tmp_path: Path) -> None:
    async with public_toy(tmp_path, requests_per_s=2, requests_burst=3) as door:
        a, b = bearer(await door.key("a")), bearer(await door.key("b"))
        async with grpc.aio.insecure_channel(door.server.target) as plain:
            for _ in range(3):
                assert await ask(plain, "Unary", b"x", metadata=a, timeout=5) == b"x"
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call_often(plain, a)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            wait_s = retry_after_s(raised.value)
            assert 0 < wait_s <= 0.5
            assert await ask(plain, "Unary", b"x", metadata=b, timeout=5) == b"x"
            await asyncio.sleep(wait_s + 0.01)
            assert await ask(plain, "Unary", b"x", metadata=a, timeout=5) == b"x"
        with pytest.raises(errors.RateLimited) as limited:
            await call_often(door.channel, a)
        assert "at most 2 a second" in str(limited.value)


async def drip(stop: asyncio.Event) -> AsyncIterator[bytes]:
    """A word, and then nothing for a long time."""
    yield b"a"
    await stop.wait()


async def test_dripping_streams_of_one_tenant_leave_room_for_others(tmp_path: Path) -> None:
    async with public_toy(tmp_path, tenant_streams_at_most=4, rpcs_at_most=8) as door:
        a, b = bearer(await door.key("a")), bearer(await door.key("b"))
        stop = asyncio.Event()
        start: Any = door.channel.stream_unary(f"/{NAME}/ClientStream")

        async def stream() -> bytes:
            answer: bytes = await start(drip(stop), metadata=a, timeout=30)
            return answer

        dripping = [asyncio.create_task(stream()) for _ in range(12)]
        for done in itertools.islice(asyncio.as_completed(dripping, timeout=20), 8):
            with pytest.raises(errors.RateLimited, match="at most 4 streams at once"):
                await done
        refused = [task for task in dripping if task.done()]
        assert len(refused) == 8
        slowest = []
        for _ in range(3):
            begin = time.monotonic()
            for method in METHODS:
                assert await ask(door.channel, method, b"x", metadata=b) == b"x"
            slowest.append(time.monotonic() - begin)
        assert min(slowest) < 1
        assert await ask(door.channel, "Unary", b"x", metadata=a) == b"x", "its own short calls go on as well"
        stop.set()
        done = await asyncio.gather(*(task for task in dripping if task not in refused))
        assert done == [b"a"] * 4
        # The places are free again.
        assert await ask(door.channel, "ClientStream", b"x", metadata=a) == b"x"


async def test_slow_calls_of_one_tenant_leave_room_for_others(tmp_path: Path) -> None:
    go, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def wait(request: bytes, _context: Any) -> bytes:
        if request == b"slow":
            begun.release()
            await go.wait()
        return request

    async with public_toy(tmp_path, Toy(wait), tenant_calls_at_most=3, rpcs_at_most=4) as door:
        a, b = bearer(await door.key("a")), bearer(await door.key("b"))
        running = [asyncio.create_task(ask(door.channel, "Unary", b"slow", metadata=a)) for _ in range(3)]
        for _ in running:
            await asyncio.wait_for(begun.acquire(), 10)
        with pytest.raises(errors.RateLimited, match="at most 3 calls at once"):
            await ask(door.channel, "Unary", b"x", metadata=a)
        assert await ask(door.channel, "Unary", b"x", metadata=b) == b"x"
        go.set()
        assert await asyncio.gather(*running) == [b"slow"] * 3


# Every call ends.


async def test_a_call_without_a_deadline_is_refused(tmp_path: Path) -> None:
    async with public_toy(tmp_path) as door, grpc.aio.insecure_channel(door.server.target) as plain:
        key = bearer(await door.key())
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(plain, "Unary", b"x", metadata=key)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no deadline" in (raised.value.details() or "")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(plain, "Unary", b"x")
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED, "strangers are told nothing else"
        assert await ask(plain, "Unary", b"x", metadata=key, timeout=5) == b"x"
        for method in ("ServerStream", "ClientStream", "Bidi"):
            assert await ask(plain, method, b"x", metadata=key) == b"x", "streams end by the server's own limits"


@pytest.mark.parametrize("method", ["ClientStream", "Bidi"])
async def test_a_stream_that_pauses_for_too_long_is_ended(method: str, tmp_path: Path) -> None:
    async with public_toy(tmp_path, stream_idle_s=1) as door:
        key = bearer(await door.key())
        start: Any = getattr(door.channel, METHODS[method])(f"/{NAME}/{method}")

        async def slowly(words: int, pause_s: float) -> AsyncIterator[bytes]:
            for _ in range(words):
                yield b"a"
                await asyncio.sleep(pause_s)

        async def call(requests: AsyncIterator[bytes]) -> bytes:
            made = start(requests, metadata=key)
            return await made if method == "ClientStream" else b",".join([part async for part in made])

        assert await call(slowly(5, 0.3)) == b"a,a,a,a,a", "longer than the pause in all, but no pause is"
        begin = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded, match="next message"):
            await call(slowly(2, 20))
        assert time.monotonic() - begin < 10


@every_kind
async def test_a_stream_ends_after_its_longest_time_whatever_its_caller_says(method: str, tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def linger(request: bytes, _context: Any) -> bytes:
        try:
            await asyncio.sleep(1.0 if method == "Unary" else 60)
        finally:
            ended.set()
        return request

    async with public_toy(tmp_path, Toy(linger), stream_total_s=0.3) as door:
        key = bearer(await door.key())
        if method == "Unary":
            assert await ask(door.channel, method, b"x", metadata=key, timeout=100) == b"x"
            return
        with pytest.raises(errors.DeadlineExceeded, match="a stream"):
            await ask(door.channel, method, b"x", metadata=key, timeout=100)
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_reader_that_does_not_read_is_ended_too(tmp_path: Path) -> None:
    ended = asyncio.Event()
    toy = Toy()

    async def endless(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(MiB)
        finally:
            ended.set()

    toy.server_stream = endless  # type: ignore[method-assign, assignment]
    async with public_toy(tmp_path, toy, stream_total_s=1.5) as door:
        start: Any = door.channel.unary_stream(f"/{NAME}/ServerStream")
        call = start(b"x", metadata=bearer(await door.key()))
        await call.read()
        await asyncio.wait_for(ended.wait(), 5)

        async def read_on() -> None:
            while await asyncio.wait_for(call.read(), 5):
                continue

        with pytest.raises(errors.DeadlineExceeded, match="a stream"):
            await read_on()


# What is too large.


async def test_a_message_beyond_four_mebibytes_is_refused_and_others_are_served(tmp_path: Path) -> None:
    async with public_toy(tmp_path) as door:
        key = bearer(await door.key())
        assert len(await ask(door.channel, "Unary", bytes(RECEIVED_BYTES - 100), metadata=key)) == RECEIVED_BYTES - 100
        for method in ("Unary", "ClientStream"):
            with pytest.raises(errors.Overloaded):
                await ask(door.channel, method, bytes(RECEIVED_BYTES + 1), metadata=key)
        assert await ask(door.channel, "Unary", b"x", metadata=key) == b"x"


async def test_metadata_beyond_sixteen_kibibytes_is_refused_and_others_are_served(tmp_path: Path) -> None:
    async with public_toy(tmp_path) as door:
        key = bearer(await door.key())
        with pytest.raises(errors.Overloaded):
            await ask(door.channel, "Unary", b"x", metadata=[*key, ("more", "x" * 20_000)])
        assert await ask(door.channel, "Unary", b"x", metadata=[*key, ("more", "x" * 4000)]) == b"x"


BOMB = """
import sys, grpc
target, key = sys.argv[1:]
options = [("grpc.max_send_message_length", -1)]
with grpc.insecure_channel(target, options=options, compression=grpc.Compression.Gzip) as channel:
    call = channel.unary_unary("/toy.ToyService/Unary")
    metadata = [("authorization", "Bearer " + key)] if key else []
    try:
        call(bytes(200_000_000), timeout=60, metadata=metadata)
    except grpc.RpcError as error:
        print(error.code().name)
"""


@pytest.mark.parametrize("has_key", [True, False])
async def test_two_hundred_megabytes_of_packed_zeros_fill_no_memory(has_key: bool, tmp_path: Path) -> None:
    async with public_toy(tmp_path) as door:
        key = await door.key()
        assert await ask(door.channel, "Unary", bytes(RECEIVED_BYTES - 100), metadata=bearer(key))
        process = psutil.Process()
        before = process.memory_info().rss
        bomber = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", BOMB, door.server.target, key if has_key else ""), stdout=asyncio.subprocess.PIPE
        )
        ended = asyncio.create_task(bomber.communicate())
        most, slowest = before, 0.0
        try:
            while not ended.done():
                most = max(most, process.memory_info().rss)
                begin = time.monotonic()
                assert await ask(door.channel, "Unary", b"x", metadata=bearer(key)) == b"x"
                slowest = max(slowest, time.monotonic() - begin)
                await asyncio.sleep(0.03)
            said, _ = await ended
        finally:
            if bomber.returncode is None:
                bomber.kill()
                await bomber.wait()
        assert said.decode().split() == ["RESOURCE_EXHAUSTED" if has_key else "UNAUTHENTICATED"]
        print(f"grew by {(most - before) / MiB:.1f} MiB, slowest other call {slowest:.3f} s")
        assert most - before < 32 * MiB
        assert slowest < 3


# Doors.


async def test_an_open_door_is_for_this_machine_alone(tmp_path: Path) -> None:
    async with public_toy(tmp_path, Toy(who), access="open") as door:
        assert await ask(door.channel, "Unary", b"x") == b"local local None"
    socket = f"unix:{tmp_path}/s"
    async with public_toy(tmp_path, Toy(who), access="open", public_listen=socket) as door:
        assert await ask(door.channel, "Unary", b"x") == b"local local None"
        async with grpc.aio.insecure_channel(door.server.target) as plain:
            with pytest.raises(grpc.aio.AioRpcError, match="no deadline"):
                await ask(plain, "Unary", b"x")
    for listen in ("0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "some-name:0"):
        with pytest.raises(errors.InvalidSetting) as raised:
            async with public_toy(tmp_path, access="open", public_listen=listen, tls_offloaded=True):
                raise AssertionError("it opened")
        assert raised.value.fields["setting"] == "access"


async def test_health_needs_no_key_and_takes_no_part_in_the_rates(tmp_path: Path) -> None:
    async with public_toy(tmp_path, requests_burst=1) as door, grpc.aio.insecure_channel(door.server.target) as plain:
        stub = health_pb2_grpc.HealthStub(plain)
        for _ in range(5):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=NAME), timeout=5)).status == 1
        assert await door.lines("call.refused") == []


async def test_connections_are_made_anew_in_time_and_no_call_is_lost(tmp_path: Path) -> None:
    async with public_toy(tmp_path, connection_age_s=1) as door, build_channel(door.server.target) as channel:
        key = bearer(await door.key())
        begin, peers = time.monotonic(), set()
        while time.monotonic() - begin < 2.5:
            call: Any = channel.unary_unary(f"/{NAME}/Unary")
            assert await call(b"x", metadata=key) == b"x"
            peers |= {c.laddr for c in psutil.Process().net_connections() if c.raddr and _is_to(c, door)}
            await asyncio.sleep(0.1)
        assert len(peers) >= 2


def _is_to(connection: Any, door: Door) -> bool:
    return bool(connection.status == "ESTABLISHED" and connection.raddr.port == int(door.server.target.split(":")[-1]))


async def test_a_message_that_is_none_is_told_to_its_sender_and_not_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from masquerade.v1 import frames_pb2

    def parse(raw: bytes) -> bytes:
        return frames_pb2.FrameBatch.FromString(raw).SerializeToString()

    toy = Toy()
    plain = toy.registration()

    def add(server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(toy.unary, parse)  # type: ignore[arg-type]
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, {"Unary": handler}),))

    toy.registration = lambda: dataclasses.replace(plain, add=add)  # type: ignore[method-assign]
    async with public_toy(tmp_path, toy) as door:
        key = bearer(await door.key())
        assert await ask(door.channel, "Unary", b"", metadata=key) == b""
        for message in (b"\x1f\x8b hello", gzip.compress(b"\xff" * 100), b"\xff" * 20, gzip.compress(b"")[:-4]):
            with pytest.raises(errors.InvalidSpec, match="cannot be read"):
                await ask(door.channel, "Unary", message, metadata=key)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_packed_messages_of_any_library_are_understood(tmp_path: Path) -> None:
    async with public_toy(tmp_path) as door:
        key = bearer(await door.key())
        target, packed = door.server.target, grpc.Compression.Gzip
        async with grpc.aio.insecure_channel(target, compression=packed) as channel:
            for method in METHODS:
                word = bytes(100_000)
                assert await ask(channel, method, word, metadata=key, timeout=5) == word


async def test_who_pings_without_end_is_sent_away(tmp_path: Path) -> None:
    """A client of no library: the preface, then pings as fast as they go."""
    enhance_your_calm = 0xB
    async with public_toy(tmp_path) as door:
        host, _, port = door.server.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        settings, ping = bytes(3) + b"\x04" + bytes(5), b"\x00\x00\x08\x06" + bytes(5 + 8)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + ping * 10)
        reason = None
        while reason is None:
            head = await asyncio.wait_for(reader.readexactly(9), 5)
            body = await asyncio.wait_for(reader.readexactly(int.from_bytes(head[:3])), 5)
            if head[3] == 7:
                reason = int.from_bytes(body[4:8])
        assert reason == enhance_your_calm
        writer.transport.abort()
        assert await ask(door.channel, "Unary", b"x", metadata=bearer(await door.key())) == b"x"


async def test_callers_put_nothing_into_our_logs(tmp_path: Path) -> None:
    async def tell(_request: bytes, _context: Any) -> bytes:
        return json.dumps(dict(current_log_fields())).encode()

    async with public_toy(tmp_path, Toy(tell)) as door:
        metadata = [*bearer(await door.key()), ("masquerade-job", "job_of_another")]
        assert json.loads(await ask(door.channel, "Unary", b"x", metadata=metadata)) == {"tenant": "studio"}
