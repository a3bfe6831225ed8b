"""The runtime inside the process: right answers in the right order, typed refusals, and it stops when told to."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import REGISTRY

from services.common.errors import (
    InvalidSetting,
    LicenceForbidden,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelMissing,
    UnknownModel,
)
from services.common.inference.onnx_runtime import OnnxRuntime
from services.common.inference.opening import open_runtime
from services.common.inference.triton import TritonRuntime
from services.common.pool import Pool
from services.common.settings import ServiceSettings
from tests.support.starter_models import REPOSITORY, STARTER, pictures, require_weights


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """Two workers."""
    pool = Pool(2)
    yield pool
    await pool.close()


@pytest.fixture
async def runtime(pool) -> AsyncIterator[OnnxRuntime]:
    """The starter models."""
    require_weights()
    runtime = OnnxRuntime(REPOSITORY, pool=pool, licence_policy="commercial")
    yield runtime
    await runtime.close()


def small_repository(folder: Path, *, commercial_use: bool = True, dtype: str = "float32") -> Path:
    """One model, `slow`: x times a matrix, many times over; about a second an item, a millisecond a node."""
    size, times = 512, 600
    matrix = np.eye(size, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", [f"v{step}" if step else "x", "m"], [f"v{step + 1}" if step < times - 1 else "y"])
        for step in range(times)
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", size, size])],
        [numpy_helper.from_array(matrix, "m")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    weights = folder / "slow" / "1" / "model.onnx"
    weights.parent.mkdir(parents=True)
    onnx.save(model, weights)
    write_card(folder, commercial_use=commercial_use, dtype=dtype)
    return folder


def write_card(folder: Path, *, commercial_use: bool = True, dtype: str = "float32") -> None:
    import hashlib

    content = (folder / "slow" / "1" / "model.onnx").read_bytes()
    tensor = f'name = "%s"\ndtype = "{dtype}"\nshape = [512, 512]\n'
    (folder / "slow" / "model.toml").write_text(
        'profile = "starter"\nsummary = "Slow."\n'
        f'[licence]\nname = "L"\ncommercial_use = {str(commercial_use).lower()}\nnotice = ""\n'
        '[source]\npublisher = "the test"\n'
        f'[[files]]\npath = "1/model.onnx"\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n'
        f"[contract]\nmax_batch = 4\n[[contract.inputs]]\n{tensor % 'x'}[[contract.outputs]]\n{tensor % 'y'}"
    )


@pytest.mark.parametrize("name", STARTER)
async def test_a_long_batch_is_answered_in_order_and_bit_for_bit_as_its_items(runtime, name):
    images = pictures(name, 19)
    together = await runtime.infer(name, {"image": images})
    for number in (0, 1, 15, 16, 18):
        alone = await runtime.infer(name, {"image": images[number : number + 1]})
        for output, values in alone.items():
            assert np.array_equal(values[0], together[output][number])


async def test_concurrent_callers_get_their_own_answers(runtime):
    images = pictures("facemesh", 8)
    expected = (await runtime.infer("facemesh", {"image": images}))["points"]
    answers = await asyncio.gather(
        *(runtime.infer("facemesh", {"image": images[number : number + 1]}) for number in range(8))
    )
    for number, answer in enumerate(answers):
        assert np.array_equal(answer["points"][0], expected[number])


async def test_calls_and_refusals_are_counted_by_model_and_reason(runtime):
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"model": "selfie", "runtime": runtime.name, **labels}) or 0

    calls = counted("masquerade_inference_seconds_count")
    refusals = counted("masquerade_inference_failures_total", reason="CANCELLED")
    await runtime.infer("selfie", {"image": pictures("selfie", 2)})
    assert counted("masquerade_inference_seconds_count") == calls + 1
    running = asyncio.create_task(runtime.infer("selfie", {"image": pictures("selfie", 200)}))
    await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert counted("masquerade_inference_failures_total", reason="CANCELLED") == refusals + 1


async def test_an_empty_batch_is_answered_without_a_run(runtime):
    answer = await runtime.infer("facemesh", {"image": np.zeros((0, 192, 192, 3), np.uint8)})
    assert {name: values.shape for name, values in answer.items()} == {"points": (0, 478, 3), "presence": (0,)}


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"picture": np.zeros((1, 192, 192, 3), np.uint8)},
        {"image": np.zeros((1, 192, 192, 3), np.float32)},
        {"image": np.zeros((192, 192, 3), np.uint8)},
        {"image": np.zeros((1, 144, 256, 3), np.uint8)},
    ],
)
async def test_inputs_that_break_the_contract_are_refused_before_the_run(runtime, inputs):
    with pytest.raises(ModelContractMismatch):
        await runtime.infer("facemesh", inputs)


async def test_digests_name_every_model_that_can_be_served(runtime):
    digests = runtime.digests()
    assert set(STARTER) <= set(digests)
    assert all(len(digest) == 64 for digest in digests.values())
    assert runtime.name == "onnxruntime-cpu-fp32"


async def test_ready_is_said_of_models_that_have_run_and_of_no_others(runtime):
    await runtime.ready(STARTER)
    with pytest.raises(UnknownModel):
        await runtime.ready(["yolo"])


async def test_weights_pulled_after_the_first_call_are_found_by_the_second(pool, tmp_path):
    repository = small_repository(tmp_path)
    weights = repository / "slow" / "1" / "model.onnx"
    content = weights.read_bytes()
    weights.unlink()
    runtime = OnnxRuntime(repository, pool=pool, licence_policy="commercial")
    empty = {"x": np.zeros((0, 512, 512), np.float32)}
    with pytest.raises(ModelMissing):
        await runtime.infer("slow", empty)
    weights.write_bytes(content[:-1])
    with pytest.raises(ModelDigestMismatch):
        await runtime.infer("slow", empty)
    weights.write_bytes(content)
    assert (await runtime.infer("slow", empty))["y"].shape == (0, 512, 512)
    await runtime.close()


async def test_a_file_that_contradicts_its_card_is_refused_at_load(pool, tmp_path):
    runtime = OnnxRuntime(small_repository(tmp_path, dtype="float16"), pool=pool, licence_policy="commercial")
    with pytest.raises(ModelContractMismatch, match="float16"):
        await runtime.ready(["slow"])


async def test_bytes_that_are_no_model_are_refused_at_load(pool, tmp_path):
    repository = small_repository(tmp_path)
    (repository / "slow" / "1" / "model.onnx").write_bytes(b"\x00\x01 no model")
    write_card(repository)
    runtime = OnnxRuntime(repository, pool=pool, licence_policy="commercial")
    with pytest.raises(ModelContractMismatch):
        await runtime.ready(["slow"])


async def test_a_model_that_the_policy_forbids_is_not_loaded(pool, tmp_path):
    repository = small_repository(tmp_path, commercial_use=False)
    runtime = OnnxRuntime(repository, pool=pool, licence_policy="commercial")
    with pytest.raises(LicenceForbidden):
        await runtime.infer("slow", {"x": np.zeros((0, 512, 512), np.float32)})


async def test_a_cancelled_run_frees_its_workers_within_two_seconds(pool, tmp_path):
    runtime = OnnxRuntime(small_repository(tmp_path), pool=pool, licence_policy="commercial")
    running = asyncio.create_task(runtime.infer("slow", {"x": np.zeros((40, 512, 512), np.float32)}))
    await asyncio.sleep(1.0)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    started = time.monotonic()
    await asyncio.gather(*(pool.run(time.sleep, 0) for _ in range(2)))
    assert time.monotonic() - started < 2
    await runtime.close()


async def test_the__settings_chooses_the_runtime(pool, tmp_path):
    assert isinstance(open_runtime(ServiceSettings(model_repository=tmp_path), pool=pool), OnnxRuntime)
    with pytest.raises(InvalidSetting):
        open_runtime(ServiceSettings(model_repository=tmp_path, runtime="triton"), pool=pool)
    on_triton = ServiceSettings(model_repository=tmp_path, runtime="triton", triton="127.0.0.1:9")
    assert isinstance(open_runtime(on_triton, pool=pool), TritonRuntime)


async def test_a_copy_of_the_repository_elsewhere_serves_as_well(pool, tmp_path):
    require_weights()
    shutil.copytree(REPOSITORY / "selfie", tmp_path / "selfie")
    runtime = OnnxRuntime(tmp_path, pool=pool, licence_policy="commercial")
    assert (await runtime.infer("selfie", {"image": pictures("selfie", 1)}))["alpha"].shape == (1, 144, 256)
    await runtime.close()
