"""A real tritonserver answers as the process itself does, batches what comes together, and may come and go."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from services.common.errors import (
    DeadlineExceeded,
    LicenceForbidden,
    ModelContractMismatch,
    ModelMissing,
    Overloaded,
    RuntimeUnavailable,
)
from services.common.inference import regions, triton
from services.common.inference.onnx_runtime import OnnxRuntime
from services.common.inference.triton import TritonRuntime
from services.common.pool import Pool
from services.common.settings import ServiceSettings
from tests.support.starter_models import REPOSITORY, STARTER, pictures, require_weights
from tests.support.triton_environment import missing
from tests.support.triton_server import TritonServer, host_repository

pytestmark = pytest.mark.triton
WAYS = pytest.mark.parametrize("shared_memory", [False, True], ids=["inline", "shared memory"])


def slow_and_short(config) -> None:
    """A server whose landmarks take long and whose queue for them is short."""
    if config.name == "facemesh":
        config.parameters["test_delay_ms"].string_value = "300"
        config.max_batch_size = 1
        config.dynamic_batching.default_queue_policy.max_queue_size = 2
        del config.model_warmup[:]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[TritonServer]:
    """The starter models as shipped."""
    with running(tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory) -> Iterator[TritonServer]:
    """See `slow_and_short`."""
    with running(tmp_path_factory.mktemp("slow-triton"), slow_and_short) as server:
        yield server


@contextmanager
def running(work: Path, edit=None) -> Iterator[TritonServer]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    require_weights()
    server = TritonServer(host_repository(REPOSITORY, work / "repository", edit=edit), work)
    server.start()
    try:
        yield server
    finally:
        # None of these tests is about draining, which takes seconds.
        server.kill()


@pytest.fixture
async def in_process() -> AsyncIterator[OnnxRuntime]:
    """The reference."""
    pool = Pool(2)
    runtime = OnnxRuntime(REPOSITORY, pool=pool, licence_policy="commercial")
    yield runtime
    await runtime.close()
    await pool.close()


@pytest.fixture
async def opened() -> AsyncIterator:
    """Opens runtimes on a server and closes them after the test."""
    runtimes = []

    def open_on(server: TritonServer, *, shared_memory: bool = False, **limits) -> TritonRuntime:
        chosen = ServiceSettings(
            model_repository=REPOSITORY, runtime="triton", triton=server.target, triton_shared_memory=shared_memory
        )
        runtimes.append(TritonRuntime(chosen, **limits))
        return runtimes[-1]

    yield open_on
    for runtime in runtimes:
        await runtime.close()


def statistics(server: TritonServer, model: str) -> tuple[int, int]:
    """Pictures that a model has answered, and runs that it took."""
    with InferenceServerClient(server.target) as client:
        stats = client.get_inference_statistics(model).model_stats[0]
    return stats.inference_count, stats.execution_count


async def settled(server: TritonServer, model: str, at_least: int = 0) -> tuple[int, int]:
    """The same once they do not change any more: a run is counted a moment after it was answered."""
    known = (-1, -1)
    async with asyncio.timeout(20):
        while (found := statistics(server, model)) != known or found[0] < at_least:
            known = found
            await asyncio.sleep(0.3)
    return found


@WAYS
@pytest.mark.parametrize("length", [1, 8, 16])
@pytest.mark.parametrize("name", STARTER)
async def test_answers_are_bit_for_bit_those_of_the_process(server, opened, in_process, name, length, shared_memory):
    images = {"image": pictures(name, length)}
    remote = await opened(server, shared_memory=shared_memory).infer(name, images)
    for output, values in (await in_process.infer(name, images)).items():
        assert remote[output].dtype == values.dtype
        assert np.array_equal(remote[output], values)


@WAYS
async def test_concurrent_requests_share_runs_and_each_gets_its_own_answer(server, opened, in_process, shared_memory):
    runtime = opened(server, shared_memory=shared_memory, in_flight=16)
    images = pictures("facemesh", 48)
    expected = (await in_process.infer("facemesh", {"image": images}))["points"]
    items_before, runs_before = await settled(server, "facemesh")
    answers = await asyncio.gather(
        *(runtime.infer("facemesh", {"image": images[number : number + 1]}) for number in range(48))
    )
    items, runs = await settled(server, "facemesh", at_least=items_before + 48)
    assert items - items_before == 48
    assert runs - runs_before <= 24, "the server put nothing together"
    for number, answer in enumerate(answers):
        assert np.array_equal(answer["points"][0], expected[number])


@WAYS
async def test_a_batch_longer_than_the_models_is_split_and_answered_in_order(server, opened, in_process, shared_memory):
    images = {"image": pictures("selfie", 37)}
    remote = await opened(server, shared_memory=shared_memory).infer("selfie", images)
    assert np.array_equal(remote["alpha"], (await in_process.infer("selfie", images))["alpha"])


async def test_an_empty_batch_needs_no_server(opened, server):
    answer = await opened(server).infer("selfie", {"image": np.zeros((0, 144, 256, 3), np.uint8)})
    assert answer["alpha"].shape == (0, 144, 256)


async def test_pictures_go_through_shared_memory_where_it_is_shared_and_none_is_left(server, opened):
    runtime = opened(server, shared_memory=True)
    await runtime.infer("selfie", {"image": pictures("selfie", 4)})
    with InferenceServerClient(server.target) as client:
        keys = [region.key for region in client.get_system_shared_memory_status().regions.values()]
        assert keys
        assert all(Path("/dev/shm", key.lstrip("/")).exists() for key in keys)
        await runtime.close()
        assert not client.get_system_shared_memory_status().regions
    assert not any(Path("/dev/shm", key.lstrip("/")).exists() for key in keys)


async def test_a_server_that_does_not_see_our_memory_is_served_through_grpc(
    server, opened, monkeypatch, tmp_path, caplog
):
    monkeypatch.setattr(regions, "_FOLDER", tmp_path)
    runtime = opened(server, shared_memory=True)
    answer = await runtime.infer("selfie", {"image": pictures("selfie", 2)})
    assert answer["alpha"].shape == (2, 144, 256)
    assert "does not share memory" in caplog.text


async def test_ready_is_said_after_the_models_have_answered(server, opened):
    await opened(server).ready(STARTER)


@WAYS
async def test_a_server_may_go_and_come_back(tmp_path, opened, shared_memory):
    with running(tmp_path) as server:
        runtime = opened(server, shared_memory=shared_memory)
        images = {"image": pictures("selfie", 2)}
        expected = await runtime.infer("selfie", images)
        server.kill()
        with pytest.raises(RuntimeUnavailable) as caught:
            await runtime.infer("selfie", images)
        assert caught.value.fields["target"] == server.target
        with pytest.raises(RuntimeUnavailable):
            await runtime.ready(["selfie"])
        server.start()
        again = await until_answered(runtime, images)
        assert np.array_equal(again["alpha"], expected["alpha"])


async def until_answered(runtime: TritonRuntime, images):
    """Connections come back by themselves, within the longest pause between two tries."""
    for _ in range(50):
        try:
            return await runtime.infer("selfie", images)
        except RuntimeUnavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("the runtime did not come back in five seconds")


async def test_a_dead_backend_is_not_ready_although_the_server_says_so(tmp_path, opened):
    with running(tmp_path) as server:
        runtime = opened(server, timeout_s=5.0)
        await runtime.ready(["blazeface_short"])
        for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
            # The stubs of this server alone: its children.
            os.kill(int(child), signal.SIGKILL)
        with InferenceServerClient(server.target) as client:
            assert client.is_model_ready("blazeface_short", "1")
        with pytest.raises((RuntimeUnavailable, DeadlineExceeded)):
            await runtime.ready(["blazeface_short"])


@WAYS
async def test_a_full_queue_is_waited_for_and_then_told(slow_server, opened, monkeypatch, shared_memory):
    runtime = opened(slow_server, in_flight=8, shared_memory=shared_memory)
    one = {"image": pictures("facemesh", 1)}
    with monkeypatch.context() as patched:
        patched.setattr(triton, "_RETRY_PAUSES_S", ())
        answers = await asyncio.gather(*(runtime.infer("facemesh", one) for _ in range(8)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert refused
    assert len(refused) < 8
    assert all(isinstance(answer, dict) for answer in answers if answer not in refused)
    # With its patience the client gets through with a few more than the queue holds.
    monkeypatch.setattr(triton, "_RETRY_PAUSES_S", (0.4,) * 10)
    assert len(await asyncio.gather(*(runtime.infer("facemesh", one) for _ in range(5)))) == 5


async def test_a_late_answer_is_a_deadline_and_its_memory_rests(slow_server, opened):
    runtime = opened(slow_server, timeout_s=0.2, shared_memory=True)
    with pytest.raises(DeadlineExceeded):
        await runtime.infer("facemesh", {"image": pictures("facemesh", 1)})


async def test_a_cancelled_call_ends_at_once(slow_server, opened):
    runtime = opened(slow_server, shared_memory=True, in_flight=2)
    one = {"image": pictures("facemesh", 1)}
    # Two and a half seconds of work for that server.
    calls = [asyncio.create_task(runtime.infer("facemesh", one)) for _ in range(8)]
    await asyncio.sleep(0.1)
    for call in calls:
        call.cancel()
    ended, late = await asyncio.wait(calls, timeout=1.0)
    assert not late
    assert all(call.cancelled() for call in ended)


async def test_a_server_with_another_contract_is_refused(tmp_path, opened, server):
    shutil.copytree(REPOSITORY / "selfie", tmp_path / "selfie", ignore=shutil.ignore_patterns("1"))
    card = tmp_path / "selfie" / "model.toml"
    card.write_text(card.read_text().replace("[144, 256]", "[144, 255]"))
    settings = ServiceSettings(model_repository=tmp_path, runtime="triton", triton=server.target)
    runtime = TritonRuntime(settings)
    with pytest.raises(ModelContractMismatch, match="255"):
        await runtime.ready(["selfie"])
    await runtime.close()


async def test_a_model_that_the_server_does_not_have_is_missing(tmp_path, server):
    shutil.copytree(REPOSITORY / "selfie", tmp_path / "matte", ignore=shutil.ignore_patterns("1"))
    runtime = TritonRuntime(ServiceSettings(model_repository=tmp_path, runtime="triton", triton=server.target))
    with pytest.raises(ModelMissing):
        await runtime.ready(["matte"])
    with pytest.raises(ModelMissing):
        await runtime.infer("matte", {"image": np.zeros((1, 144, 256, 3), np.uint8)})
    await runtime.close()


async def test_a_forbidden_model_is_refused_before_the_server_is_asked(tmp_path):
    shutil.copytree(REPOSITORY / "selfie", tmp_path / "selfie", ignore=shutil.ignore_patterns("1"))
    card = tmp_path / "selfie" / "model.toml"
    card.write_text(card.read_text().replace("commercial_use = true", "commercial_use = false"))
    runtime = TritonRuntime(ServiceSettings(model_repository=tmp_path, runtime="triton", triton="127.0.0.1:9"))
    with pytest.raises(LicenceForbidden):
        await runtime.infer("selfie", {"image": np.zeros((1, 144, 256, 3), np.uint8)})
    await runtime.close()
