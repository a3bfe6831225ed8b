"""A service alone in a process with both its doors: who gets in where, and how it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common import errors
from services.common.access import keys
from services.common.channels import build_channel
from services.common.records.database import Records
from services.common.secret import read_or_make_secret
from tests.contract.toy import ask
from tests.support.callers import bearer

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def toy_service(data: Path, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process; it is killed at the end of the block if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MASQUERADE_")}
    own = {f"MASQUERADE_{name.upper()}": value for name, value in {"data": str(data), **settings}.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.toy_service"),
        cwd=ROOT,
        env={**inherited, **own},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def until_serving(target: str, process: asyncio.subprocess.Process) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(200):
            assert process.returncode is None, await process.communicate()
            with contextlib.suppress(grpc.aio.AioRpcError):  # it has not begun to listen
                if (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status == 1:
                    return
            await asyncio.sleep(0.1)
    raise AssertionError("it never served")


async def key_for(data: Path) -> str:
    records = Records(f"sqlite:///{data}/records.sqlite")
    try:
        await records.open()
        _, text = await keys.make(records, read_or_make_secret(data), tenant="studio", actor="test")
        return text
    finally:
        await records.close()


def doors(folder: Path) -> Mapping[str, str]:
    return {"listen": f"unix:{folder}/inner", "public_listen": f"unix:{folder}/public"}


async def test_a_service_serves_both_doors_and_drains_both(tmp_path: Path) -> None:
    named = doors(tmp_path)
    async with toy_service(tmp_path, **named) as process:
        for target in named.values():
            await until_serving(target, process)
        shown = bearer(await key_for(tmp_path))
        async with build_channel(named["listen"]) as inner, build_channel(named["public_listen"]) as public:
            assert await ask(inner, "Unary", b"x") == b"x"
            assert await ask(public, "Unary", b"x", metadata=shown) == b"x"
            with pytest.raises(errors.Unauthenticated):
                await ask(public, "Unary", b"x")
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    told = [line["message"] for line in lines if line["logger"] == "services.common.server"]
    assert told == ["listening", "listening", "stopped"]


async def test_without_a_public_address_nothing_public_is_served(tmp_path: Path) -> None:
    inner = doors(tmp_path)["listen"]
    async with toy_service(tmp_path, listen=inner) as process:
        await until_serving(inner, process)
        assert not (tmp_path / "public").exists()
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 20)
    assert said.count(b'"listening"') == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"public_listen": "0.0.0.0:0"}, "public_listen"),
        ({"public_listen": "0.0.0.0:0", "access": "open", "tls_offloaded": "true"}, "access"),
        ({"public_listen": "127.0.0.1:0", "tls_certificate": "/absent", "tls_key": "/absent"}, "tls_certificate"),
        ({"public_listen": "127.0.0.1:0", "token_keys": "/absent"}, "token_issuer"),
        ({"mesh_certificate": "/absent"}, "mesh_ca"),
    ],
)
async def test_a_door_that_is_not_safe_ends_the_service_with_two_and_says_why(
    settings: dict[str, str], named: str, tmp_path: Path
) -> None:
    async with toy_service(tmp_path, **{"listen": f"unix:{tmp_path}/inner", **settings}) as process:
        _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert said.decode().splitlines()[-1].startswith(f"{named} cannot be")
