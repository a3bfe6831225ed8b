"""Models in this process, on its CPU: ONNX Runtime, one thread a run, runs in the shared pool.

This is the reference: fp32, and each item's answer is the same in a batch of any length (`tests` hold it to that).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnxruntime as ort

from services.common.arrays import Tensor
from services.common.errors import ModelContractMismatch
from services.common.inference import batches
from services.common.inference.models import (
    VARIABLE,
    LicencePolicy,
    Model,
    TensorContract,
    check_contract,
    check_licence,
    read_model,
    read_models,
    read_weights,
)
from services.common.inference.observing import observed
from services.common.pool import Pool

NAME = "onnxruntime-cpu-fp32"
ITEMS_PER_RUN = 4
"""Most items in one run. On one core a face takes 4.4 ms alone, 3.8 among 4, 3.7 among 16; a matte 1.1, 1.1 and 1.35:
more than 4 fall out of the cache, and a short run gives the pool to others sooner."""

_ARENA = {
    "max_mem": 0,  # no limit
    "arena_extend_strategy": 0,  # by powers of two: extending by what is asked leaves more holes and saves nothing
    "initial_chunk_size_bytes": 1 << 20,
    "max_dead_bytes_per_chunk": -1,
}

_DTYPES = {"float": "float32", "double": "float64"}
_NO_SUCH_FILE = "the file cannot be read by ONNX Runtime"


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Model
    session: Any
    outputs: list[str]


class OnnxRuntime:
    """Models of a repository, loaded when they are first asked for."""

    name = NAME

    def __init__(self, repository: Path, *, pool: Pool, licence_policy: LicencePolicy) -> None:
        _share_arena()
        self._repository = repository
        self._pool = pool
        self._licence_policy = licence_policy
        self._loading: dict[str, asyncio.Task[_Loaded]] = {}

    async def infer(self, model: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Runtime.infer`."""
        loaded = await self._load(model)
        length = batches.batch_length(loaded.model, inputs)
        # What one call brings is spread over the pool before it fills batches: a second core gains all.
        most = max(1, min(loaded.model.max_batch or length, ITEMS_PER_RUN, math.ceil(length / self._pool.workers)))
        with observed(model, runtime=NAME, items=length):
            parts = await self._run_all(loaded, list(batches.split(inputs, length, most)))
        return batches.join(loaded.model, parts)

    async def ready(self, models: Iterable[str]) -> None:
        """See `Runtime.ready`: loads the models, and runs each once on nothing but zeros."""
        for name in models:
            loaded = await self._load(name)
            await self.infer(name, batches.blank_inputs(loaded.model))

    def digests(self) -> dict[str, str]:
        """See `Runtime.digests`."""
        models = read_models(self._repository)
        return {name: model.digest for name, model in models.items() if model.is_served}

    async def close(self) -> None:
        """See `Runtime.close`."""
        loading, self._loading = self._loading, {}
        for task in loading.values():
            task.cancel()
        await asyncio.gather(*loading.values(), return_exceptions=True)

    async def _load(self, name: str) -> _Loaded:
        """The model, loaded once for all who ask at the same time; one caller that leaves does not take it away."""
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = asyncio.create_task(self._open(name))
            # A load that failed is tried again by the next call: the operator may have pulled the weights since.
            task.add_done_callback(lambda done: self._forget_failed(name, done))
        return await asyncio.shield(task)

    def _forget_failed(self, name: str, task: asyncio.Task[_Loaded]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._loading.pop(name, None)

    async def _open(self, name: str) -> _Loaded:
        model = read_model(self._repository, name)
        check_licence(model, self._licence_policy)
        session = await self._pool.run(_open_session, self._repository, model)
        return _Loaded(model=model, session=session, outputs=[tensor.name for tensor in model.outputs])

    async def _run_all(self, loaded: _Loaded, parts: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Run the parts, as many at once as the pool allows; if one fails or the caller leaves, stop them all."""
        options = ort.RunOptions()
        gate = asyncio.Semaphore(self._pool.workers)

        async def run(part: dict[str, Tensor]) -> dict[str, Tensor]:
            async with gate:
                return await self._pool.run(_run, loaded, part, options)

        runs = [asyncio.ensure_future(run(part)) for part in parts]
        try:
            return list(await asyncio.gather(*runs))
        finally:
            # Looked at between any two nodes of the graph, so that a run ends within milliseconds of its caller.
            options.terminate = True
            for running in runs:
                running.cancel()


def _run(loaded: _Loaded, inputs: dict[str, Tensor], options: Any) -> dict[str, Tensor]:
    answers = loaded.session.run(loaded.outputs, inputs, options)
    return dict(zip(loaded.outputs, answers, strict=True))


@lru_cache(maxsize=1)
def _share_arena() -> None:
    """One arena for the sessions of all models in this process.

    With one of its own, each session keeps what its largest coincidence of runs has ever needed, and doubles it at any
    later, larger one: 32 MiB at once, somewhere in the first thousands of frames. The pool bounds the runs of all
    models together, so a common arena needs less and has it within seconds: 30 to 60 MiB less in a job, and 3 % less
    CPU in a run (measured with the four starter models and two workers).
    """
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg(_ARENA))


def _open_session(repository: Path, model: Model) -> Any:
    """Load the very bytes that were hashed, and hold the file to its contract."""
    options = ort.SessionOptions()
    # The pool is the only parallelism: threads inside threads are slower, and change nothing in the answer.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")
    weights = read_weights(repository, model)
    try:
        session = ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except ort.capi.onnxruntime_pybind11_state.InvalidProtobuf as problem:
        raise ModelContractMismatch(model=model.name, problem=_NO_SUCH_FILE) from problem
    check_contract(model, map(_contract, session.get_inputs()), map(_contract, session.get_outputs()))
    return session


def _contract(argument: Any) -> TensorContract:
    """An input or output as ONNX Runtime describes it; its first axis is the batch."""
    kind = re.fullmatch(r"tensor\((\w+)\)", argument.type)
    dtype = kind.group(1) if kind else argument.type
    shape = tuple(size if isinstance(size, int) else VARIABLE for size in argument.shape[1:])
    return TensorContract(name=argument.name, dtype=_DTYPES.get(dtype, dtype), shape=shape)
