"""A large file goes up through a client that is killed, into a server that stays small."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
MiB = 1 << 20
MOST_ABOVE_IDLE = 64 * MiB
PART = 8 * MiB
KILLED_AT = (0.25, 0.6)
"""Shares of the file that are confirmed when the client is killed."""


@contextlib.asynccontextmanager
async def ingest(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Ingest alone in a process, with its public door open on a socket."""
    target = f"unix:{folder}/public"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MASQUERADE_")}
    given = {
        "MASQUERADE_DATA": str(folder),
        "MASQUERADE_ACCESS": "open",
        "MASQUERADE_PUBLIC_LISTEN": target,
        "MASQUERADE_INGEST__LISTEN": f"unix:{folder}/inner",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ingest"),
        cwd=ROOT,
        env={**inherited, **given},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await serving(target, process)
        yield process, target
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 20)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def serving(target: str, process: asyncio.subprocess.Process) -> None:
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


@contextlib.asynccontextmanager
async def client(target: str, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """An upload in a process of its own, killed at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.uploader", target, str(path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def resident_bytes(process: int, line: str) -> int:
    """VmRSS is what it holds now, VmHWM the most that it ever held since that was reset."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(each.split()[1]) for each in status.splitlines() if each.startswith(line)) * 1024


def confirmed(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{folder}/records.sqlite?mode=ro", uri=True, timeout=10)) as rows:
        found = rows.execute("SELECT confirmed_bytes FROM uploads").fetchone()
    return found[0] if found else 0


def write_noise(path: Path, mib: int) -> str:
    """A file of noise; its digest."""
    sha = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(mib):
            content = os.urandom(MiB)
            sha.update(content)
            file.write(content)
    return sha.hexdigest()


@pytest.mark.parametrize(
    "mib", [64, pytest.param(1024, marks=[pytest.mark.soak, pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_an_upload_survives_its_client_and_the_server_stays_small(mib: int, tmp_path: Path) -> None:
    digest = write_noise(tmp_path / "large.bin", mib)
    data = tmp_path / "data"
    data.mkdir()
    async with ingest(data) as (server, target):
        idle = resident_bytes(server.pid, "VmRSS")
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")
        before = 0
        for share in KILLED_AT:
            async with client(target, tmp_path / "large.bin") as uploading, asyncio.timeout(mib):
                while confirmed(data) < share * mib * MiB:
                    assert uploading.returncode is None
                    await asyncio.sleep(0.005)
                uploading.kill()
                said = (await uploading.communicate())[0].split()
            # It went on from where the one before it was killed, and was not let to say it was done.
            assert [int(each) for each in said] == [before]
            async with asyncio.timeout(10):
                before = await settled(data)
        async with client(target, tmp_path / "large.bin") as uploading, asyncio.timeout(mib):
            said = (await uploading.communicate())[0].split()
        assert (int(said[0]), said[1].decode()) == (before, digest)
        assert before >= KILLED_AT[-1] * mib * MiB - PART
        above = resident_bytes(server.pid, "VmHWM") - idle
    (stored,) = (data / "objects").rglob("sha256-*")
    assert stored.name == f"sha256-{digest}"
    assert stored.stat().st_size == mib * MiB
    print(f"{mib} MiB: {above / MiB:.1f} MiB above idle")
    assert above < MOST_ABOVE_IDLE


@pytest.mark.slow
async def test_an_upload_survives_its_server(tmp_path: Path) -> None:
    """Killed in the middle of the stream, and while it makes one file of all parts."""
    digest = write_noise(tmp_path / "large.bin", 64)
    data = tmp_path / "data"
    data.mkdir()
    went_on_from = []
    for killed_at in (0.3, 1.0, None):
        async with ingest(data) as (server, target), client(target, tmp_path / "large.bin") as uploading:
            while killed_at is not None and confirmed(data) < killed_at * 64 * MiB:
                assert uploading.returncode is None
                await asyncio.sleep(0.005)
            if killed_at is not None:
                server.kill()
            said = (await asyncio.wait_for(uploading.communicate(), 60))[0].split()
            went_on_from.append(int(said[0]))
    assert said[1].decode() == digest
    assert went_on_from[0] == 0
    assert went_on_from[1] >= 0.3 * 64 * MiB
    assert went_on_from[2] == 64 * MiB
    (stored,) = (data / "objects").rglob("sha256-*")
    assert stored.name == f"sha256-{digest}"


async def settled(folder: Path) -> int:
    """What is confirmed when the server has heard that its caller is gone."""
    before = -1
    while (now := confirmed(folder)) != before:
        before = now
        await asyncio.sleep(0.3)
    return now
