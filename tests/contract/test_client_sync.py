"""The client without an event loop, and what needs a server of its own: one that starts again under its watchers."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from masquerade.client import Access, AsyncClient, Client, ClientError, Consent, JobIdentity, JobSpec
from masquerade.v1 import compositor_pb2, job_pb2
from tests.support.people_house import portrait
from tests.support.public_house import PublicHouse, public_house


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[PublicHouse]:
    """One for each test."""
    async with public_house(tmp_path / "house", requests_per_s=1000) as opened:
        yield opened


def blur(asset: str) -> JobSpec:
    spec = JobSpec(asset_id=asset)
    spec.background.kind = compositor_pb2.BACKGROUND_KIND_BLUR
    return spec


def some_file(path: Path, size: int = 1000, *, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name == "masquerade-client"}


async def test_a_watcher_waits_for_a_server_that_starts_again(house: PublicHouse, tmp_path: Path) -> None:
    async with AsyncClient(house.target, key=await house.key()) as client:
        reached = house.peers.hold("compositor.RenderSegment")
        job = await client.jobs.create(blur((await client.assets.upload(some_file(tmp_path / "clip.mp4"))).id))
        waiting = asyncio.create_task(client.jobs.wait(job.id))
        async with asyncio.timeout(40):
            await reached.wait()
            await house.stop()
            house.peers.let_go("compositor.RenderSegment")
            await asyncio.sleep(1)
            await house.start()
            ended = await waiting
        assert ended.state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_program_without_a_loop_does_the_same(house: PublicHouse, tmp_path: Path) -> None:
    key, path, picture = await house.key(), some_file(tmp_path / "clip.mp4"), tmp_path / "anna.png"
    picture.write_bytes(portrait())
    agreed = Consent(method=job_pb2.CONSENT_METHOD_SELF)

    def program() -> None:
        with Client(house.target, key=key) as client:
            asset = client.assets.upload(path)
            assert client.assets.get(asset.id) == asset
            assert [each.id for each in client.assets.list()] == [asset.id]
            job = client.jobs.create(blur(asset.id))
            told = []
            # In the caller's thread: it may call the client from here.
            ended = client.jobs.wait(job.id, told=lambda step: told.append(client.jobs.get(job.id).id))
            assert set(told) == {job.id}
            assert client.jobs.download(ended, tmp_path / "out.mp4").read_bytes() == ended.artifact.key.encode()
            assert [each.id for each in client.jobs.list()] == [job.id]
            portraits = [client.assets.upload(picture).id]
            anna = client.identities.create("Anna", portraits=portraits, consent=agreed)
            faced = JobSpec(asset_id=asset.id, identities=[JobIdentity(name="anna", identity_id=anna.id)])
            first = client.jobs.wait(client.jobs.create(faced).id)
            again = client.jobs.wait(client.jobs.rerender(first.id, faced).id)
            assert again.rerender_of == first.id
            client.jobs.delete(again.id)
            assert client.jobs.describe().version
            assert [each.id for each in client.identities.list()] == [anna.id]

    await asyncio.to_thread(program)
    assert threads() == set()


async def test_an_exception_inside_the_block_ends_what_runs(house: PublicHouse, tmp_path: Path) -> None:
    key, path = await house.key(), some_file(tmp_path / "clip.mp4")
    reached = house.peers.hold("compositor.RenderSegment")

    def program() -> None:
        with Client(house.target, key=key) as client:
            job = client.jobs.create(blur(client.assets.upload(path).id))
            for _ in client.jobs.watch(job.id):
                raise KeyError("on purpose")

    async with asyncio.timeout(20):
        with pytest.raises(KeyError, match="on purpose"):
            await asyncio.to_thread(program)
        await reached.wait()
    assert threads() == set()
    house.peers.let_go("compositor.RenderSegment")


async def test_an_iterator_that_is_left_leaves_no_warning(
    house: PublicHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = await house.key()
    paths = [some_file(tmp_path / f"{n}", seed=n) for n in range(4)]

    def program() -> None:
        with Client(house.target, key=key) as client:
            for path in paths:
                client.assets.upload(path)
            for _ in client.assets.list(page_size=1):
                break
            kept = client.assets.list(page_size=1)
            next(kept)
            job = client.jobs.create(blur(next(kept).id))
            watched = client.jobs.watch(job.id)
            next(watched)
        # The block has ended before its iterators: they end with it.
        del kept, watched
        gc.collect()

    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG, logger="asyncio"):
        warnings.simplefilter("always")
        await asyncio.to_thread(program)
        gc.collect()
    assert [str(each.message) for each in caught] == []
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert threads() == set()


async def test_two_clients_and_two_threads_in_one_process(
    house: PublicHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [await house.key("anna"), await house.key("bob")]
    paths = [some_file(tmp_path / f"{n}", 200_000, seed=n) for n in range(8)]

    def program() -> None:
        with (
            Client(house.target, key=keys[0]) as anna,
            Client(house.target, key=keys[1]) as bob,
            ThreadPoolExecutor(2) as pool,
        ):
            stored = list(pool.map(lambda path: anna.assets.upload(path).id, paths))
            theirs = bob.assets.upload(paths[0]).id
            assert {each.id for each in anna.assets.list(page_size=3)} == set(stored)
            assert [each.id for each in bob.assets.list()] == [theirs]
            with pytest.raises(ClientError) as caught:
                bob.assets.get(stored[1])
            assert caught.value.reason == "ASSET_NOT_FOUND"

    await asyncio.to_thread(program)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert threads() == set()


async def test_outside_of_its_block_and_in_callbacks_it_says_so(house: PublicHouse, tmp_path: Path) -> None:
    key, path = await house.key(), some_file(tmp_path / "clip.mp4")

    def program() -> None:
        client = Client(house.target, key=key)
        with pytest.raises(RuntimeError, match="outside of its `with` block"):
            client.jobs.describe()
        with client:
            with pytest.raises(RuntimeError, match="inside a callback"):
                client.assets.upload(path, advance=lambda *_: client.jobs.describe() and None)
            with pytest.raises(RuntimeError, match="in use"):
                client.__enter__()
        with pytest.raises(RuntimeError, match="outside"):
            list(client.jobs.list())
        with client:
            assert client.jobs.describe().profile

    await asyncio.to_thread(program)
    assert threads() == set()


def test_a_client_that_cannot_begin_leaves_no_thread(tmp_path: Path) -> None:
    access = Access("mesh.example:443", ca=tmp_path / "absent.pem")
    with pytest.raises(ClientError) as caught, Client(access=access):
        pass
    assert caught.value.reason == "INPUT_MISSING"
    assert threads() == set()
