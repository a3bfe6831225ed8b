"""What every service may rely on: one toy service, four kinds of RPC, real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from io import StringIO
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from services.common import errors, metrics
from services.common.channels import build_channel
from services.common.deadlines import remaining_s, without_deadline
from services.common.logs import JsonLines, current_log_fields, log_fields
from services.common.server import MESSAGE_BYTES, build_server
from services.common.settings import ServiceSettings
from tests.contract.toy import KINDS, METHODS, NAME, Toy, ask, served

every_kind = pytest.mark.parametrize("method", list(METHODS))


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@every_kind
async def test_calls_of_every_kind_are_answered(method: str) -> None:
    async with served(Toy()) as (_, channel):
        assert await ask(channel, method, b"a,b,c") == b"a,b,c"


@every_kind
async def test_a_typed_error_rises_at_the_caller_as_it_was_raised(method: str) -> None:
    async def refuse(request: bytes, _context: Any) -> bytes:
        raise errors.InvalidSpec(
            field="keep[0]",
            problem="is empty",
            remedy="name a range",
            violations=[errors.Violation("keep[0]", "empty")],
        )

    async with served(Toy(refuse)) as (_, channel):
        with pytest.raises(errors.InvalidSpec) as raised:
            await ask(channel, method, b"a")
    assert raised.value.fields == {"field": "keep[0]", "problem": "is empty"}
    assert raised.value.remedy == "name a range"
    assert raised.value.violations == (errors.Violation("keep[0]", "empty"),)


@every_kind
async def test_a_stranger_sees_status_and_details(method: str) -> None:
    async def refuse(request: bytes, _context: Any) -> bytes:
        raise errors.Overloaded(what="the toy", retry_after_s=2)

    async with served(Toy(refuse)) as (server, _), grpc.aio.insecure_channel(server.target) as plain:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(plain, method, b"a")
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the toy has more work than it takes" in (raised.value.details() or "")
    assert "grpc-status-details-bin" in dict(raised.value.trailing_metadata() or ())


@every_kind
async def test_a_fault_of_ours_shows_no_stack_and_no_text_to_the_caller(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: bytes, _context: Any) -> bytes:
        raise ValueError("/secret/path")

    async with served(Toy(fail)) as (_, channel):
        with pytest.raises(errors.Internal) as raised:
            await ask(channel, method, b"a")
    assert "secret" not in str(raised.value)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert raised.value.fields["incident"] in record.getMessage()
    assert record.exc_info


async def test_the_typed_error_inside_a_group_is_the_one_that_is_told() -> None:
    async def fail(request: bytes, _context: Any) -> bytes:
        raise ExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("inner", [errors.RingFull(asked_bytes=1)])])

    async with served(Toy(fail)) as (_, channel):
        with pytest.raises(errors.RingFull):
            await ask(channel, "Unary", b"a")


@every_kind
async def test_an_error_passes_through_a_chain_of_services_unchanged(method: str) -> None:
    async def refuse(request: bytes, _context: Any) -> bytes:
        raise errors.HdrUnsupported(path="a.mp4", transfer="PQ")

    async with served(Toy(refuse)) as (_, inner):

        async def pass_on(request: bytes, _context: Any) -> bytes:
            return await ask(inner, method, request)

        async with served(Toy(pass_on)) as (_, outer):
            with pytest.raises(errors.HdrUnsupported) as raised:
                await ask(outer, method, b"a")
    assert raised.value.fields == {"path": "a.mp4", "transfer": "PQ"}


async def test_half_a_stream_is_heard_before_its_error() -> None:
    async def refuse_the_third(request: bytes, _context: Any) -> bytes:
        if request == b"3":
            raise errors.CorruptMedia(at="frame 3")
        return request

    heard: list[bytes] = []

    async def hear(channel: grpc.aio.Channel) -> None:
        call: Any = channel.unary_stream(f"/{NAME}/ServerStream")
        async for part in call(b"1,2,3,4"):
            heard.append(part)

    async with served(Toy(refuse_the_third)) as (_, channel):
        with pytest.raises(errors.CorruptMedia):
            await hear(channel)
    assert heard == [b"1", b"2"]


async def test_a_stream_can_be_written_and_read_by_hand() -> None:
    async with served(Toy()) as (_, channel):
        make: Any = channel.stream_stream(f"/{NAME}/Bidi")
        call = make()
        for text in (b"a", b"b"):
            await call.write(text)
            assert await call.read() == text
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_writing_to_a_stream_that_failed_says_why_it_failed() -> None:
    async def refuse(request: bytes, _context: Any) -> bytes:
        raise errors.RingFull(asked_bytes=1)

    async def write_on(channel: grpc.aio.Channel) -> None:
        make: Any = channel.stream_stream(f"/{NAME}/Bidi")
        call = make()
        for _ in range(5):
            # Not while the stream ends: gRPC itself loses the status when a write is on its way then.
            await call.write(b"a")
            await asyncio.sleep(0.3)

    async with served(Toy(refuse)) as (_, channel):
        with pytest.raises(errors.RingFull):
            await write_on(channel)


async def test_an_absent_peer_is_unavailable_and_named() -> None:
    async with build_channel("127.0.0.1:1", peer="swapper", is_retried=False) as channel:
        with pytest.raises(errors.Unavailable) as raised:
            await ask(channel, "Unary", b"a")
    assert raised.value.fields["peer"] == "swapper"


@every_kind
async def test_a_deadline_is_a_typed_error_and_ends_the_work(method: str) -> None:
    ended = asyncio.Event()

    async def linger(request: bytes, _context: Any) -> bytes:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return request

    async with served(Toy(linger)) as (_, channel):
        with pytest.raises(errors.DeadlineExceeded):
            await ask(channel, method, b"a", timeout=0.2)
        await asyncio.wait_for(ended.wait(), 5)


@every_kind
async def test_the_callers_deadline_reaches_the_last_peer(method: str) -> None:
    async def tell(request: bytes, _context: Any) -> bytes:
        return str(remaining_s()).encode()

    async with served(Toy(tell)) as (_, inner):

        async def pass_on(request: bytes, _context: Any) -> bytes:
            return await ask(inner, method, request, timeout=500)

        async with served(Toy(pass_on)) as (_, outer):
            left = float(await ask(outer, method, b"a", timeout=10))
            assert 5 < left < 10.5  # gRPC rounds the time that it sends up
            with without_deadline():
                assert remaining_s() is None


async def test_work_whose_deadline_has_passed_calls_no_peer() -> None:
    called = []

    async def note(request: bytes, _context: Any) -> bytes:
        called.append(request)
        return request

    async with served(Toy(note)) as (_, inner):

        async def too_late(request: bytes, _context: Any) -> bytes:
            await asyncio.shield(asyncio.sleep(0.05))
            return await ask(inner, "Unary", request)

        async with served(Toy(too_late)) as (_, outer):
            with pytest.raises(errors.DeadlineExceeded):
                await ask(outer, "Unary", b"a", timeout=0.08)
    assert called == []


@every_kind
async def test_calls_are_counted_under_public_names(method: str) -> None:
    labels = {"grpc_type": KINDS[method], "grpc_service": NAME, "grpc_method": method}

    async def maybe(request: bytes, _context: Any) -> bytes:
        if request == b"bad":
            raise errors.NotAVideo()
        return request

    def counts() -> list[float]:
        return [
            count("grpc_server_started_total", **labels),
            count("grpc_server_handled_total", **labels, grpc_code="OK"),
            count("grpc_server_handled_total", **labels, grpc_code="InvalidArgument"),
            count("grpc_server_handling_seconds_count", **labels),
        ]

    before = counts()
    async with served(Toy(maybe)) as (_, channel):
        await ask(channel, method, b"good")
        with pytest.raises(errors.NotAVideo):
            await ask(channel, method, b"bad")
        await asyncio.sleep(0.01)
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [2, 1, 1, 2]
    assert count("masquerade_errors_total", reason="NOT_A_VIDEO") >= 1


async def test_more_calls_than_are_served_at_once_are_told_to_come_again() -> None:
    go = asyncio.Event()

    async def wait(request: bytes, _context: Any) -> bytes:
        await go.wait()
        return request

    async with served(Toy(wait), rpcs_at_most=2) as (_, channel):
        running = [asyncio.create_task(ask(channel, "Unary", b"a")) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(errors.Overloaded) as raised:
            await ask(channel, "Unary", b"a")
        assert raised.value.fields["retry_after_s"] == "1"
        go.set()
        assert await asyncio.gather(*running) == [b"a", b"a"]
        assert await ask(channel, "Unary", b"a") == b"a"


@every_kind
async def test_a_caller_that_leaves_ends_the_work(method: str) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def linger(request: bytes, _context: Any) -> bytes:
        began.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return request

    async with served(Toy(linger)) as (_, channel):
        task = asyncio.create_task(ask(channel, method, b"a"))
        await asyncio.wait_for(began.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(ended.wait(), 5)


@every_kind
async def test_job_and_segment_are_log_fields_of_the_peer_too(method: str) -> None:
    async def tell(request: bytes, _context: Any) -> bytes:
        return json.dumps(dict(current_log_fields())).encode().replace(b",", b";")

    async with served(Toy(tell)) as (_, channel):
        with log_fields(job="job_1", segment=3, own="stays"):
            told = json.loads((await ask(channel, method, b"a")).replace(b";", b","))
    assert told == {"job": "job_1", "segment": "3"}


async def test_a_message_beyond_the_cap_is_refused_and_the_server_lives() -> None:
    async with served(Toy()) as (_, channel):
        with pytest.raises(errors.Overloaded):
            await ask(channel, "Unary", bytes(MESSAGE_BYTES + 1))
        assert len(await ask(channel, "Unary", bytes(MESSAGE_BYTES - 100))) == MESSAGE_BYTES - 100


async def health_of(server_target: str, service: str) -> int:
    async with grpc.aio.insecure_channel(server_target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int((await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status)


async def test_health_is_not_serving_until_warm_and_while_draining() -> None:
    toy = Toy()
    toy.warming.clear()
    async with served(toy, drain_notice_s=0.3) as (server, _):
        assert [await health_of(server.target, name) for name in ("", NAME)] == [2, 2]
        toy.warming.set()
        await server.warmed()
        assert [await health_of(server.target, name) for name in ("", NAME)] == [1, 1]
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        assert await health_of(server.target, NAME) == 2
        await stopping
        assert toy.is_closed


async def test_probes_are_not_counted_as_calls() -> None:
    async with served(Toy()) as (server, _):
        await health_of(server.target, "")
    assert (
        REGISTRY.get_sample_value(
            "grpc_server_started_total",
            {"grpc_type": "unary", "grpc_service": "grpc.health.v1.Health", "grpc_method": "Check"},
        )
        is None
    )


async def test_a_service_that_cannot_get_warm_says_why() -> None:
    toy = Toy()

    async def fail() -> None:
        raise errors.ModelMissing(model="facemesh")

    toy.warm = fail  # type: ignore[method-assign]
    async with served(toy) as (server, _):
        with pytest.raises(errors.ModelMissing):
            await server.warmed()
        assert await health_of(server.target, NAME) == 2


@every_kind
async def test_draining_loses_no_running_call(method: str) -> None:
    async def slowly(request: bytes, _context: Any) -> bytes:
        await asyncio.sleep(0.3)
        return request

    async with served(Toy(slowly)) as (server, channel):
        running = [asyncio.create_task(ask(channel, method, b"a,b")) for _ in range(5)]
        await asyncio.sleep(0.1)
        await server.stop(drain_s=10)
        assert await asyncio.gather(*running) == [b"a,b"] * 5


async def test_draining_ends_in_time_whatever_still_runs() -> None:
    async def linger(request: bytes, _context: Any) -> bytes:
        await asyncio.sleep(60)
        return request

    async with served(Toy(linger)) as (server, channel):
        running = asyncio.create_task(ask(channel, "Unary", b"a"))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(server.stop(drain_s=0.2), 5)
        with pytest.raises((errors.Unavailable, errors.Cancelled)):
            await running


async def test_two_servers_on_one_port_are_an_error() -> None:
    async with served(Toy()) as (server, _):
        second = build_server([Toy().registration()], ServiceSettings(listen=server.target))
        with pytest.raises(errors.InvalidSetting):
            await second.start()
        await second.stop(drain_s=0)


async def test_a_unix_socket_serves_as_well(tmp_path: Any) -> None:
    async with served(Toy(), listen=f"unix:{tmp_path}/s") as (_, channel):
        assert await ask(channel, "Unary", b"a") == b"a"


async def test_metrics_are_served_over_http() -> None:
    async with served(Toy(), metrics_listen="127.0.0.1:0") as (server, channel):
        await ask(channel, "Unary", b"a")
        await asyncio.sleep(0.25)
        address = f"http://127.0.0.1:{server.metrics_port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=5).read().decode())
    assert f'grpc_server_handled_total{{grpc_code="OK",grpc_method="Unary",grpc_service="{NAME}"' in text
    assert "masquerade_event_loop_lag_seconds" in text


async def test_a_held_event_loop_is_seen() -> None:
    import time

    async with metrics.loop_lag_watched():
        await asyncio.sleep(0.05)
        time.sleep(0.4)  # noqa: ASYNC251  # this is the fault that is looked for
        await asyncio.sleep(0.15)
    assert count("masquerade_event_loop_lag_seconds") > 0.2


async def test_reflection_lists_the_services_when_asked_for() -> None:
    async with served(Toy(), reflection=True) as (server, _):
        from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

        async with grpc.aio.insecure_channel(server.target) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
        assert NAME in {service.name for service in answers[0].list_services_response.service}


def test_a_log_line_is_json_and_holds_no_pixels() -> None:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines("toy"))
    logger = logging.getLogger("test.lines")
    logger.addHandler(handler)
    logger.propagate = False
    with log_fields(job="job_1"):
        logger.warning("said %s", "this", extra={"frame": b"\x00" * 1000, "count": 3})
    line = json.loads(stream.getvalue())
    assert (line["message"], line["job"], line["count"], line["service"]) == ("said this", "job_1", 3, "toy")
    assert line["frame"] == "<1000 bytes>"
