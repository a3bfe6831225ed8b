"""`masquerade up` with a lock on its public door, and a tenant who does the worst beside one who works."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
import pytest_asyncio

from masquerade.v1 import asset_pb2, job_pb2
from masquerade.v1.asset_pb2_grpc import AssetServiceStub
from masquerade.v1.job_pb2_grpc import JobServiceStub
from services.common.access import keys
from services.common.access.door import RECEIVED_BYTES
from services.common.records.database import Records
from services.common.secret import read_or_make_secret
from tests.clips import make_clip
from tests.e2e.command import ROOT
from tests.e2e.ports import free_ports
from tests.support.bad_tokens import BAD_TOKENS
from tests.support.callers import Issuer, bearer
from tests.support.starter_models import require_weights

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

MiB = 1 << 20
READY_WITHIN_S = 60
MOST_GROWTH = 64 * MiB
SLOWEST_S = 3.0
"""Of another tenant's call while somebody does his worst; in the median it is milliseconds."""

STREAMS_OF_A_TENANT = 16


@dataclass
class Up:
    """The running command, its public address, and a key for each of two tenants."""

    process: asyncio.subprocess.Process
    target: str
    issuer: Issuer
    keys: dict[str, Any] = field(default_factory=dict)

    @property
    def resident(self) -> int:
        """Bytes of the process that serves."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """As an operator starts it who serves others."""
    require_weights()
    folder = tmp_path_factory.mktemp("up")
    issuer = Issuer(folder)
    first = free_ports(8)
    settings = {"MASQUERADE_ACCESS": "keys", "MASQUERADE_DRAIN_S": "0"}
    settings |= {f"MASQUERADE_{name.upper()}": value for name, value in issuer.settings.items()}
    command = ["up", "--data", folder / "data", "--first-port", first + 1, "--public", f"127.0.0.1:{first}"]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.standalone", *map(str, command), "--metrics", f"127.0.0.1:{first + 7}"),
            cwd=ROOT,
            env=_without_settings() | settings,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    running = Up(process, f"127.0.0.1:{first}", issuer)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_WITHIN_S):
            while (line := await process.stdout.readline()).strip() != b"ready":
                assert line, (folder / "log").read_text()[-2000:]
        records = Records(f"sqlite:///{folder}/data/records.sqlite")
        await records.open()
        for tenant in ("vandal", "worker"):
            _, text = await keys.make(
                records, read_or_make_secret(folder / "data"), tenant=tenant, actor="test", name=tenant
            )
            running.keys[tenant] = bearer(text)
        await records.close()
        yield running
        assert process.returncode is None, (folder / "log").read_text()[-2000:]
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MASQUERADE_")}


@contextlib.asynccontextmanager
async def working(up: Up) -> AsyncIterator[list[float]]:
    """Somebody else calls all the time: every call must be answered, and soon. The server must stay as it is."""
    took: list[float] = []
    idle, most = up.resident, 0
    stop = asyncio.Event()

    async def call() -> None:
        nonlocal most
        async with grpc.aio.insecure_channel(up.target) as channel:
            stub: Any = JobServiceStub(channel)
            while not stop.is_set():
                begin = time.monotonic()
                await stub.ListJobs(job_pb2.ListJobsRequest(), metadata=up.keys["worker"], timeout=30)
                took.append(time.monotonic() - begin)
                most = max(most, up.resident)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 0.05)

    task = asyncio.create_task(call())
    try:
        yield took
    finally:
        stop.set()
        await task
    assert max(took) < SLOWEST_S, f"the slowest of {len(took)} calls took {max(took):.1f} s"
    assert most - idle < MOST_GROWTH, f"the server grew by {(most - idle) / MiB:.0f} MiB"


async def status(call: Any) -> grpc.StatusCode:
    """How a call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_no_token_that_does_not_hold_lets_anybody_in(up: Up) -> None:
    async with grpc.aio.insecure_channel(up.target) as channel, working(up):
        stub: Any = JobServiceStub(channel)

        def listed(text: str) -> Any:
            return stub.ListJobs(job_pb2.ListJobsRequest(), metadata=bearer(text), timeout=20)

        # Of another issuer, for the token that he signs.
        up.issuer.path.with_name("evil").mkdir()
        answers = {name: await status(listed(make(up.issuer))) for name, (make, _) in BAD_TOKENS.items()}
        assert {name for name, code in answers.items() if code is not grpc.StatusCode.UNAUTHENTICATED} == set()
        assert await status(listed(up.issuer.token())) is grpc.StatusCode.OK
        nobody = stub.ListJobs(job_pb2.ListJobsRequest(), timeout=20)
        assert await status(nobody) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_without_an_end_and_one_without_measure_are_refused(up: Up) -> None:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(up.target, options=options) as channel, working(up):
        jobs: Any = JobServiceStub(channel)
        assets: Any = AssetServiceStub(channel)
        vandal = up.keys["vandal"]
        endless = jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=vandal)
        assert await status(endless) is grpc.StatusCode.INVALID_ARGUMENT
        huge = job_pb2.CreateJobRequest(request_id="x" * (RECEIVED_BYTES + 1))
        assert await status(jobs.CreateJob(huge, metadata=vandal, timeout=20)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        chunk = asset_pb2.UploadAssetRequest(chunk=asset_pb2.UploadChunk(chunk=bytes(RECEIVED_BYTES + 1)))
        upload = assets.UploadAsset(iter([chunk]), metadata=vandal, timeout=20)
        assert await status(upload) is grpc.StatusCode.RESOURCE_EXHAUSTED
        long = jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=[*vandal, ("more", "x" * 20_000)], timeout=20)
        assert await status(long) is grpc.StatusCode.RESOURCE_EXHAUSTED


BOMB = """
import sys, grpc
target, key = sys.argv[1:]
options = [("grpc.max_send_message_length", -1)]
with grpc.insecure_channel(target, options=options, compression=grpc.Compression.Gzip) as channel:
    call = channel.unary_unary("/masquerade.v1.JobService/CreateJob")
    try:
        call(bytes(200_000_000), timeout=60, metadata=[("authorization", key)])
    except grpc.RpcError as error:
        print(error.code().name)
"""


async def test_two_hundred_megabytes_of_packed_zeros_are_refused_and_fill_no_memory(up: Up) -> None:
    async with working(up):
        key = dict(up.keys["vandal"])["authorization"]
        bomber = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", BOMB, up.target, key), stdout=asyncio.subprocess.PIPE
        )
        try:
            said, _ = await asyncio.wait_for(bomber.communicate(), 60)
        finally:
            if bomber.returncode is None:
                bomber.kill()
                await bomber.wait()
        assert said.decode().split() == ["RESOURCE_EXHAUSTED"]


async def test_a_tenant_with_dripping_streams_does_not_slow_one_who_works(up: Up, tmp_path: Path) -> None:
    stop = asyncio.Event()

    async def drip(number: int) -> AsyncIterator[asset_pb2.UploadAssetRequest]:
        # A call that is refused while its client writes ends with an error of gRPC's in the client, not with ours.
        await asyncio.sleep(1)
        yield asset_pb2.UploadAssetRequest(
            begin=asset_pb2.UploadBegin(name="slow", upload_id=f"slow {number}", size_bytes=1 << 20)
        )
        for offset in range(1000):
            yield asset_pb2.UploadAssetRequest(chunk=asset_pb2.UploadChunk(offset=offset, chunk=b"."))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.2)
            if stop.is_set():
                return

    async with grpc.aio.insecure_channel(up.target) as channel, working(up):
        assets: Any = AssetServiceStub(channel)
        streams = [
            asyncio.create_task(status(assets.UploadAsset(drip(number), metadata=up.keys["vandal"], timeout=90)))
            for number in range(3 * STREAMS_OF_A_TENANT)
        ]
        try:
            first = itertools.islice(asyncio.as_completed(streams, timeout=30), 2 * STREAMS_OF_A_TENANT)
            refused = [await each for each in first]
            assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            clip = make_clip(tmp_path / "clip.mp4", frames=24, size=(160, 120))
            assert await _whole_job(up, clip) > 0
            assert sum(not each.done() for each in streams) == STREAMS_OF_A_TENANT, "dripping all the while"
        finally:
            stop.set()
            await asyncio.wait(streams, timeout=30)


async def _whole_job(up: Up, clip: Path) -> int:
    """Upload, create, watch, download: as somebody does whom all this is none of; length of the result."""
    content = clip.read_bytes()
    worker = {"metadata": up.keys["worker"], "timeout": 60}
    async with grpc.aio.insecure_channel(up.target) as channel:
        jobs: Any = JobServiceStub(channel)
        assets: Any = AssetServiceStub(channel)
        begin = asset_pb2.UploadBegin(name="clip.mp4", upload_id="clip", size_bytes=len(content))
        stored = await assets.UploadAsset(
            iter(
                [
                    asset_pb2.UploadAssetRequest(begin=begin),
                    asset_pb2.UploadAssetRequest(chunk=asset_pb2.UploadChunk(chunk=content)),
                    asset_pb2.UploadAssetRequest(
                        finish=asset_pb2.UploadFinish(digest=hashlib.sha256(content).hexdigest())
                    ),
                ]
            ),
            **worker,
        )
        spec = job_pb2.JobSpec(asset_id=stored.asset.id)
        spec.provenance.label = "others are served"
        job = (await jobs.CreateJob(job_pb2.CreateJobRequest(request_id="whole", spec=spec), **worker)).job
        async for _ in jobs.WatchJob(job_pb2.WatchJobRequest(id=job.id), **worker):
            pass
        job = (await jobs.GetJob(job_pb2.GetJobRequest(id=job.id), **worker)).job
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.failure
        request = asset_pb2.DownloadAssetRequest(id=job.artifact.key)
        pieces = [piece async for piece in assets.DownloadAsset(request, **worker)]
        return sum(len(piece.chunk) for piece in pieces)
