"""Services as processes of their own: they get warm, say so, and leave when told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
STATELESS = ("ingest",)
"""Those that need no weights; the others are started in tests/e2e, which pulls models."""


async def started(service: str, environ: Mapping[str, str]) -> asyncio.subprocess.Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MASQUERADE_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{service}"),
        cwd=ROOT,
        env={**inherited, **environ},
        stderr=asyncio.subprocess.PIPE,
    )


async def until_serving(target: str, process: asyncio.subprocess.Process) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(300):
            assert process.returncode is None
            # It has not begun to listen.
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.1)
    raise AssertionError("it never served")


@pytest.mark.parametrize("service", STATELESS)
async def test_a_service_alone_serves_until_it_is_told_to_stop(service: str, tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/socket"
    name = service.upper()
    process = await started(service, {f"MASQUERADE_{name}__LISTEN": target, "MASQUERADE_DATA": str(tmp_path)})
    try:
        await until_serving(target, process)
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    lines = [json.loads(line) for line in said.splitlines()]
    assert process.returncode == 0
    assert [line["message"] for line in lines if line["logger"] == "services.common.server"] == ["listening", "stopped"]
    assert {line["service"] for line in lines} == {service}


async def test_a_wrong_setting_ends_a_service_with_two_and_says_which(tmp_path: Path) -> None:
    process = await started("ingest", {"MASQUERADE_LOG_LEVL": "INFO", "MASQUERADE_DATA": str(tmp_path)})
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert said.decode().startswith(
        "MASQUERADE_LOG_LEVL is not a setting; did you mean MASQUERADE_LOG_LEVEL?: `masquerade config`"
    )
