"""What `masquerade.client` promises to programs, against real servers: files, lists, errors, keys, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

import pytest
import pytest_asyncio

from masquerade.client import Access, AsyncClient, ClientError, Consent, JobFailed, JobSpec
from masquerade.v1 import compositor_pb2, job_pb2
from services.common.errors import DecoderDied
from tests.support.certificates import Papers
from tests.support.cutting_proxy import cutting_proxy
from tests.support.people_house import portrait
from tests.support.public_house import PublicHouse, public_house

MiB = 1 << 20
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PublicHouse]:
    """One for the tests of this module that leave it as it is."""
    async with public_house(tmp_path_factory.mktemp("house"), requests_per_s=1000) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: PublicHouse) -> AsyncIterator[AsyncClient]:
    """Of a tenant of its own."""
    async with AsyncClient(house.target, key=await house.key(f"t{random.getrandbits(40)}")) as opened:
        yield opened


def some_file(path: Path, size: int, *, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def blurred(client: AsyncClient, folder: Path, *, seed: int = 1) -> JobSpec:
    asset = await client.assets.upload(some_file(folder / "clip.mp4", 1000, seed=seed))
    spec = JobSpec(asset_id=asset.id)
    spec.background.kind = compositor_pb2.BACKGROUND_KIND_BLUR
    return spec


async def one_asset(client: AsyncClient) -> list[str]:
    return [each.id async for each in client.assets.list()]


# Files


async def test_an_upload_goes_on_when_the_server_comes_back(tmp_path: Path) -> None:
    path = some_file(tmp_path / "long.mp4", 64 * MiB)
    async with (
        public_house(tmp_path / "house", has_jobs=False) as house,
        cutting_proxy(house.target) as line,
        AsyncClient(line.target, key=await house.key()) as client,
    ):
        uploading = asyncio.create_task(client.assets.upload(path))
        async with asyncio.timeout(30):
            await line.until_up(20 * MiB)
        await house.stop()
        await asyncio.sleep(0.5)
        await house.start()
        async with asyncio.timeout(60):
            asset = await uploading
        assert (asset.digest, asset.size_bytes, asset.name) == (sha(path), 64 * MiB, "long.mp4")
        # What was confirmed is not sent again: at most what was in flight, and some parts.
        assert line.up < 64 * MiB + 24 * MiB


async def test_another_client_takes_up_what_one_has_left(house: PublicHouse, tmp_path: Path) -> None:
    path, key = some_file(tmp_path / "long.mp4", 48 * MiB, seed=2), await house.key("left")
    async with cutting_proxy(house.target) as line:
        async with AsyncClient(line.target, key=key) as first:
            uploading = asyncio.create_task(first.assets.upload(path, upload_id="mine"))
            async with asyncio.timeout(30):
                await line.until_up(40 * MiB)
            uploading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await uploading
        sent = line.up
        told: list[int] = []
        async with AsyncClient(line.target, key=key) as second:
            asset = await second.assets.upload(path, upload_id="mine", advance=lambda done, total: told.append(done))
        assert asset.digest == sha(path)
        assert line.up - sent < 46 * MiB
        assert told[0] > MiB
        assert told[-1] == 48 * MiB
    async with AsyncClient(house.target, key=key) as third:
        assert (await third.assets.upload(path)).id == asset.id


async def test_a_file_that_changes_on_its_way_is_not_stored(client: AsyncClient, tmp_path: Path) -> None:
    for change in (lambda file: file.truncate(2 * MiB), lambda file: file.write(b"another beginning")):
        path = some_file(tmp_path / "clip.mp4", 4 * MiB, seed=5)

        def changes(done: int, total: int, change: Callable[[BinaryIO], int] = change) -> None:
            with (tmp_path / "clip.mp4").open("r+b") as file:
                file.seek(3 * MiB)
                change(file)

        with pytest.raises(ClientError) as caught:
            await client.assets.upload(path, advance=changes)
        assert caught.value.reason == "UPLOAD_CONFLICT"
    assert await one_asset(client) == []


async def test_a_download_goes_on_where_the_line_broke(house: PublicHouse, client: AsyncClient, tmp_path: Path) -> None:
    path = some_file(tmp_path / "in.bin", 12 * MiB, seed=3)
    asset = await client.assets.upload(path)
    async with cutting_proxy(house.target) as line, AsyncClient(line.target, key=client.access.key) as far:
        line.cut_after(down=(4 * MiB, 9 * MiB))
        told: list[tuple[int, int]] = []
        out = await far.assets.download(
            asset.id, tmp_path / "out.bin", digest=asset.digest, advance=lambda *each: told.append(each)
        )
        assert out.read_bytes() == path.read_bytes()
        assert line.connections >= 3
        # Nothing was fetched twice but what was on the line. One that began anew each time would have taken 21 MiB.
        assert line.down < 12 * MiB + 8 * MiB
        assert [done for done, _ in told] == sorted({done for done, _ in told})
        assert told[-1] == (12 * MiB, 12 * MiB)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.bin", "out.bin"]


async def test_bytes_that_are_not_those_of_the_digest_leave_no_file(client: AsyncClient, tmp_path: Path) -> None:
    asset = await client.assets.upload(some_file(tmp_path / "in.bin", 5000, seed=4))
    (tmp_path / "out.bin").write_bytes(b"older")
    with pytest.raises(ClientError) as caught:
        await client.assets.download(asset.id, tmp_path / "out.bin", digest="0" * 64)
    assert caught.value.reason == "OBJECT_CORRUPT"
    assert (tmp_path / "out.bin").read_bytes() == b"older"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.bin", "out.bin"]


async def test_files_that_cannot_be_read_or_written_are_errors_with_a_reason(
    client: AsyncClient, tmp_path: Path
) -> None:
    with pytest.raises(ClientError) as caught:
        await client.assets.upload(tmp_path / "absent.mp4")
    assert (caught.value.reason, bool(caught.value.remedy)) == ("INPUT_MISSING", True)
    with pytest.raises(ClientError) as caught:
        await client.assets.upload(tmp_path)
    assert caught.value.reason == "INPUT_MISSING"
    asset = await client.assets.upload(some_file(tmp_path / "in.bin", 10))
    with pytest.raises(ClientError) as caught:
        await client.assets.download(asset.id, tmp_path / "no folder" / "out.bin")
    assert caught.value.reason == "OUTPUT_UNWRITABLE"


async def test_lists_are_fetched_page_by_page_newest_first(client: AsyncClient, tmp_path: Path) -> None:
    stored = [(await client.assets.upload(some_file(tmp_path / f"{n}", 10 + n, seed=n))).id for n in range(5)]
    for size in (0, 2, 5):
        assert [each.id async for each in client.assets.list(page_size=size)] == stored[::-1]
    async with aclosing(client.assets.list(page_size=2)) as few:
        assert (await anext(few)).id == stored[-1]


# Errors


async def test_an_error_says_reason_fields_violations_and_remedy(client: AsyncClient) -> None:
    with pytest.raises(ClientError) as caught:
        await client.assets.get("asset_" + "a" * 26)
    error = caught.value
    assert (error.reason, error.code.name) == ("ASSET_NOT_FOUND", "NOT_FOUND")
    assert "asset_aaa" in error.text
    assert error.remedy
    assert error.fields["asset"].startswith("asset_")
    assert error.retry_after_s is None
    assert str(error).startswith("ASSET_NOT_FOUND: ")
    with pytest.raises(ClientError) as caught:
        await client.jobs.create(JobSpec(priority=17))
    assert caught.value.reason == "INVALID_SPEC"
    assert {"spec.asset_id", "spec.priority"} <= {each.field for each in caught.value.violations}
    assert all(each.problem for each in caught.value.violations)


async def test_calls_that_come_too_fast_are_made_again_when_the_server_says(tmp_path: Path) -> None:
    async with (
        public_house(tmp_path, has_jobs=False, requests_per_s=20, requests_burst=5) as house,
        AsyncClient(house.target, key=await house.key()) as client,
    ):
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(one_asset(client) for _ in range(25)))
        assert asyncio.get_running_loop().time() - begin > 0.8


async def test_who_has_no_time_to_wait_is_told_how_long_it_would_be(tmp_path: Path) -> None:
    async with (
        public_house(tmp_path, has_jobs=False, requests_per_s=0.1, requests_burst=1) as house,
        AsyncClient(house.target, key=await house.key(), timeout_s=5) as client,
    ):
        await one_asset(client)
        with pytest.raises(ClientError) as caught:
            await one_asset(client)
        assert caught.value.reason == "RATE_LIMITED"
        assert caught.value.retry_after_s is not None
        assert 5 <= caught.value.retry_after_s <= 10


async def test_a_call_ends_at_its_deadline() -> None:
    serving: set[asyncio.Task[None]] = set()

    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            with contextlib.suppress(OSError):
                await reader.read()
        finally:
            writer.transport.abort()

    silent = await asyncio.start_server(says_nothing, "127.0.0.1", 0)
    where = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, AsyncClient(where, timeout_s=0.5) as client:
        async with asyncio.timeout(5):
            with pytest.raises(ClientError) as caught:
                await client.jobs.describe()
        assert caught.value.reason in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    # A connection that is left open would be found by another test.
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)


async def test_nobody_at_the_address_is_said_within_seconds(tmp_path: Path) -> None:
    async with AsyncClient("127.0.0.1:1", key="k") as client, asyncio.timeout(15):
        path = some_file(tmp_path / "a", 10)
        for call in (client.jobs.describe(), client.assets.upload(path), client.jobs.wait("job_x")):
            with pytest.raises(ClientError) as caught:
                await call
            assert (caught.value.reason, caught.value.fields) == ("UNAVAILABLE", {})


# Who calls


async def test_the_key_comes_from_argument_file_or_environment(house: PublicHouse, tmp_path: Path) -> None:
    key = await house.key()
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    for access in (
        Access.find(house.target, key=key, environ={"MASQUERADE_KEY": "another"}),
        Access.find(house.target, key_file=file, environ={"MASQUERADE_KEY": "another"}),
        Access.find(environ={"MASQUERADE_ENDPOINT": house.target, "MASQUERADE_KEY": key}),
        Access.find(house.target, environ={"MASQUERADE_KEY_FILE": str(file)}),
    ):
        async with AsyncClient(access=access) as client:
            assert [each async for each in client.jobs.list()] == []
    for wrong in ("", "msq_nobody"):
        async with AsyncClient(access=Access(house.target, key=wrong, is_tls=False)) as stranger:
            with pytest.raises(ClientError) as caught:
                await stranger.jobs.describe()
        assert caught.value.reason == "UNAUTHENTICATED"


async def test_tls_with_a_private_authority(tmp_path: Path) -> None:
    papers, others = Papers(tmp_path / "papers"), Papers(tmp_path / "others")
    async with public_house(tmp_path / "house", has_jobs=False, **papers.public) as house:
        key = await house.key()
        async with AsyncClient(access=Access.find(house.target, key=key, ca=papers.ca_file)) as client:
            path = some_file(tmp_path / "a", 3 * MiB)
            asset = await client.assets.upload(path)
            assert (await client.assets.download(asset.id, tmp_path / "b")).read_bytes() == path.read_bytes()
        async with AsyncClient(access=Access.find(house.target, key=key, ca=others.ca_file)) as distrustful:
            with pytest.raises(ClientError) as caught:
                await distrustful.assets.get(asset.id)
        assert caught.value.reason == "UNAVAILABLE"


async def test_a_certificate_of_the_callers_own(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "papers")
    flags = {**papers.public, "tls_client_ca": str(papers.ca_file)}
    async with public_house(tmp_path / "house", has_jobs=False, **flags) as house:
        key = await house.key()
        shown = {"certificate": papers.certificate, "private_key": papers.key}
        async with AsyncClient(access=Access.find(house.target, key=key, ca=papers.ca_file, **shown)) as client:
            assert await one_asset(client) == []
        async with AsyncClient(access=Access.find(house.target, key=key, ca=papers.ca_file)) as stranger:
            with pytest.raises(ClientError) as caught:
                await one_asset(stranger)
            assert caught.value.reason == "UNAVAILABLE"


# Jobs


async def test_watching_misses_and_repeats_nothing_when_the_line_breaks(
    house: PublicHouse, client: AsyncClient, tmp_path: Path
) -> None:
    spec = await blurred(client, tmp_path)
    async with cutting_proxy(house.target) as line, AsyncClient(line.target, key=client.access.key) as far:
        reached = house.peers.hold("compositor.RenderSegment")
        job = await far.jobs.create(spec)
        seen: list[job_pb2.Progress] = []

        async def follow() -> None:
            async for progress in far.jobs.watch(job.id):
                seen.append(progress)

        following = asyncio.create_task(follow())
        async with asyncio.timeout(40):
            await reached.wait()
            for _ in range(3):
                await asyncio.sleep(0.6)
                line.cut()
            house.peers.let_go("compositor.RenderSegment")
            await following
    numbers = [each.sequence for each in seen]
    assert numbers == sorted(set(numbers))
    kept = [each.sequence async for each in client.jobs.watch(job.id)]
    assert set(kept) <= set(numbers)
    assert seen[-1].state == job_pb2.JOB_STATE_SUCCEEDED
    assert [each.sequence async for each in client.jobs.watch(job.id, from_sequence=kept[-2])] == kept[-2:]


async def test_a_job_that_was_retried_is_watched_to_its_second_end(
    house: PublicHouse, client: AsyncClient, tmp_path: Path
) -> None:
    house.peers.fail("compositor.Assemble", DecoderDied(how="on purpose"))
    job = await client.jobs.create(await blurred(client, tmp_path))
    with pytest.raises(JobFailed) as caught:
        await client.jobs.wait(job.id)
    assert caught.value.reason == "DECODER_DIED"
    assert caught.value.job.failure.stage
    with pytest.raises(ClientError) as none:
        await client.jobs.download(caught.value.job, tmp_path / "out.mp4")
    assert none.value.reason == "JOB_STATE_FORBIDS"
    house.peers.fail("compositor.Assemble", None)
    await client.jobs.retry(job.id)
    told: list[int] = []
    ended = await client.jobs.wait(job.id, told=lambda progress: told.append(progress.state))
    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job_pb2.JOB_STATE_FAILED in told
    assert told[-1] == job_pb2.JOB_STATE_SUCCEEDED
    out = await client.jobs.download(ended, tmp_path / "out.mp4")
    assert sha(out) == ended.artifact.digest


async def test_jobs_are_created_once_listed_by_label_cancelled_and_deleted(
    house: PublicHouse, client: AsyncClient, tmp_path: Path
) -> None:
    spec = await blurred(client, tmp_path)
    spec.labels["shelf"] = "top"
    house.peers.hold("compositor.Verify")
    job = await client.jobs.create(spec, request_id="once")
    assert (await client.jobs.create(spec, request_id="once")).id == job.id
    assert [each.id async for each in client.jobs.list(labels={"shelf": "top"})] == [job.id]
    assert [each.id async for each in client.jobs.list(labels={"shelf": "low"})] == []
    await client.jobs.cancel(job.id)
    house.peers.let_go("compositor.Verify")
    with pytest.raises(JobFailed) as caught:
        await client.jobs.wait(job.id)
    assert caught.value.reason == "CANCELLED"
    await client.jobs.delete(job.id)
    with pytest.raises(ClientError) as gone:
        await client.jobs.get(job.id)
    assert gone.value.reason == "JOB_NOT_FOUND"


async def test_faces_are_enrolled_withdrawn_and_erased(client: AsyncClient, tmp_path: Path) -> None:
    picture = tmp_path / "anna.png"
    picture.write_bytes(portrait())
    asset = await client.assets.upload(picture)
    made = await client.identities.create(
        "Anna", portraits=[asset.id], consent=Consent(method=job_pb2.CONSENT_METHOD_SELF)
    )
    assert [each.id async for each in client.identities.list()] == [made.id]
    assert (await client.identities.get(made.id)).name == "Anna"
    assert (await client.identities.revoke_consent(made.id)).HasField("revoke_time")
    await client.identities.delete(made.id)
    with pytest.raises(ClientError) as caught:
        await client.identities.get(made.id)
    assert caught.value.reason == "IDENTITY_NOT_FOUND"
