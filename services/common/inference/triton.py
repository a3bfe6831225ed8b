"""Models on a Triton server, over gRPC, with or without shared memory.

Requests are never larger than the model's batch and several are in flight, so that the server's batcher has something
to put together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

from services.common.arrays import Tensor
from services.common.errors import NoSpace
from services.common.inference import batches, triton_errors
from services.common.inference.models import (
    VARIABLE,
    VERSION,
    Model,
    TensorContract,
    check_contract,
    check_licence,
    read_model,
    read_models,
)
from services.common.inference.observing import observed
from services.common.inference.regions import Region, Regions, can_be_shared, item_bytes
from services.common.inference.runtime import RuntimeSettings
from services.common.metrics import INFERENCE_OVERFLOWS

NAME = "triton-fp32"
_RETRY_PAUSES_S = (0.05, 0.2, 0.8)
"""Waits before a request that met a full queue is sent again; after the last, the caller is told."""

_CHANNEL = (
    # These replace the client's own, its unlimited messages included.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits up to two minutes before it looks again whether a server is back.
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.initial_reconnect_backoff_ms", 200),
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Served:
    model: Model
    gate: asyncio.Semaphore
    regions: Regions | None


class TritonRuntime:
    """Models as a Triton server holds them; the cards in our own copy of the repository are the contract."""

    name = NAME

    def __init__(self, settings: RuntimeSettings, *, timeout_s: float = 30.0, in_flight: int = 4) -> None:
        """Nothing is connected yet.

        Args:
            settings: which server, which repository, which licences.
            timeout_s: longest wait for one answer, queueing on the server included.
            in_flight: most requests of one model at once; 2 where less is given, because a server that sees one
                request at a time cannot batch.
        """
        self._repository = settings.model_repository
        self._target = settings.triton
        self._policy = settings.policy
        self._timeout_s = timeout_s
        self._in_flight = max(2, in_flight)
        self._client: InferenceServerClient | None = None
        self._served: dict[str, _Served] = {}
        self._shares_memory = settings.triton_shared_memory

    async def infer(self, model: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Runtime.infer`."""
        served = self._serve(model)
        length = batches.batch_length(served.model, inputs)
        most = served.model.max_batch or max(1, length)
        with observed(model, runtime=NAME, items=length):
            requests = [
                asyncio.ensure_future(self._request(served, part)) for part in batches.split(inputs, length, most)
            ]
            try:
                parts = await asyncio.gather(*requests)
            finally:
                for request in requests:
                    request.cancel()
        return batches.join(served.model, parts)

    async def ready(self, models: Iterable[str]) -> None:
        """See `Runtime.ready`.

        Triton calls a model ready whose backend has died, so each is asked to answer.
        """
        for name in models:
            served = self._serve(name)
            await self._check_contract(served.model)
            await self.infer(name, batches.blank_inputs(served.model))

    def digests(self) -> dict[str, str]:
        """See `Runtime.digests`. The server does not tell digests: these are of our copy of the repository."""
        models = read_models(self._repository)
        return {name: model.digest for name, model in models.items() if model.is_served}

    async def close(self) -> None:
        """See `Runtime.close`."""
        client, self._client = self._client, None
        for served in self._served.values():
            if served.regions is None:
                continue
            if client is not None:
                await _let_go(client, served.regions)
            served.regions.remove()
        self._served.clear()
        if client is not None:
            await client.close()

    def _connected(self) -> InferenceServerClient:
        # Made in the event loop that it will serve; gRPC connects with the first call and again by itself.
        if self._client is None:
            self._client = InferenceServerClient(self._target, channel_args=list(_CHANNEL))
        return self._client

    def _serve(self, name: str) -> _Served:
        if name not in self._served:
            model = read_model(self._repository, name)
            check_licence(model, self._policy)
            regions = None
            if self._shares_memory and can_be_shared(model):
                regions = Regions(model, most=self._in_flight + 1, rest_s=self._timeout_s)
            self._served[name] = _Served(model=model, gate=asyncio.Semaphore(self._in_flight), regions=regions)
        return self._served[name]

    async def _request(self, served: _Served, part: dict[str, Tensor]) -> dict[str, Tensor]:
        """One request, sent again a few times while the server's queue is full."""
        async with served.gate:
            for pause_s in (*_RETRY_PAUSES_S, None):
                try:
                    return await self._send(served, part)
                except InferenceServerException as refusal:
                    message = refusal.message() or ""
                    if triton_errors.is_full(message):
                        INFERENCE_OVERFLOWS.labels(served.model.name).inc()
                        if pause_s is not None:
                            await asyncio.sleep(pause_s)
                            continue
                    raise self._typed(refusal, served.model.name) from refusal
        raise AssertionError("the last try either answers or raises")

    async def _send(self, served: _Served, part: dict[str, Tensor]) -> dict[str, Tensor]:
        region = self._take_region(served)
        if region is None or served.regions is None:
            return await self._send_inline(served.model, part)
        try:
            if await self._registered(region):
                answer = await self._send_shared(served, region, part)
            else:
                answer = await self._send_inline(served.model, part)
        except asyncio.CancelledError:
            served.regions.rest(region)
            raise
        except InferenceServerException as refusal:
            if _status(refusal) == "DEADLINE_EXCEEDED":
                served.regions.rest(region)
            else:
                served.regions.give_back(region)
            raise
        served.regions.give_back(region)
        return answer

    def _take_region(self, served: _Served) -> Region | None:
        if served.regions is None or not self._shares_memory:
            return None
        try:
            return served.regions.take()
        except NoSpace as full:
            _log.warning("pictures go to Triton through gRPC: %s", full.text())
            self._shares_memory = False
            return None

    async def _send_inline(self, model: Model, part: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = [_declare(name, array) for name, array in part.items()]
        for declared, array in zip(inputs, part.values(), strict=True):
            declared.set_data_from_numpy(np.ascontiguousarray(array))
        outputs = [InferRequestedOutput(tensor.name) for tensor in model.outputs]
        result = await self._infer(model, inputs, outputs)
        length = len(next(iter(part.values())))
        # Triton has no item without axes: it answers one number for each item as (batch, 1).
        return {
            tensor.name: result.as_numpy(tensor.name).reshape((length, *tensor.shape))
            if VARIABLE not in tensor.shape
            else result.as_numpy(tensor.name)
            for tensor in model.outputs
        }

    async def _send_shared(self, served: _Served, region: Region, part: dict[str, Tensor]) -> dict[str, Tensor]:
        model = served.model
        length = len(next(iter(part.values())))
        region.write(part)
        inputs = [_declare(name, array) for name, array in part.items()]
        for declared, array in zip(inputs, part.values(), strict=True):
            declared.set_shared_memory(region.name, array.nbytes, offset=region.offsets[declared.name()])
        outputs = [InferRequestedOutput(tensor.name) for tensor in model.outputs]
        for wanted, tensor in zip(outputs, model.outputs, strict=True):
            wanted.set_shared_memory(region.name, item_bytes(tensor) * length, offset=region.offsets[tensor.name])
        try:
            await self._infer(model, inputs, outputs)
        except InferenceServerException as refusal:
            if not triton_errors.is_region_lost(refusal.message() or ""):
                raise
            assert served.regions is not None
            served.regions.forget_registrations()
            await self._register(region)
            await self._infer(model, inputs, outputs)
        return {tensor.name: region.read(tensor, length) for tensor in model.outputs}

    async def _infer(self, model: Model, inputs: list[InferInput], outputs: list[InferRequestedOutput]) -> Any:
        return await self._connected().infer(
            model.name,
            inputs,
            model_version=str(VERSION),
            outputs=outputs,
            client_timeout=self._timeout_s,
        )

    async def _registered(self, region: Region) -> bool:
        """Whether the server shares the region; where it refuses to, memory is not shared any more."""
        if region.is_registered:
            return True
        try:
            await self._register(region)
        except InferenceServerException as refusal:
            if _status(refusal) in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise
            _log.warning("Triton does not share memory with us, pictures go through gRPC: %s", refusal.message())
            self._shares_memory = False
        return region.is_registered

    async def _register(self, region: Region) -> None:
        await self._connected().register_system_shared_memory(
            region.name, region.key, region.nbytes, client_timeout=self._timeout_s
        )
        region.is_registered = True

    async def _check_contract(self, model: Model) -> None:
        try:
            offered = await self._connected().get_model_metadata(
                model.name, str(VERSION), client_timeout=self._timeout_s
            )
        except InferenceServerException as refusal:
            raise self._typed(refusal, model.name) from refusal
        promised = {tensor.name: tensor.shape for tensor in (*model.inputs, *model.outputs)}
        check_contract(
            model,
            [_contract(tensor, promised) for tensor in offered.inputs],
            [_contract(tensor, promised) for tensor in offered.outputs],
        )

    def _typed(self, refusal: InferenceServerException, model: str) -> Exception:
        return triton_errors.typed_error(_status(refusal), refusal.message() or "", model=model, target=self._target)


async def _let_go(client: InferenceServerClient, regions: Regions) -> None:
    for region in regions.registered():
        try:
            await client.unregister_system_shared_memory(region.name, client_timeout=1.0)
        except InferenceServerException as refusal:
            # A server that has gone has let go as well.
            _log.debug("a region stays registered: %s", refusal.message())
            return


def _status(refusal: InferenceServerException) -> str:
    """The name of gRPC's status code; empty where no call was made."""
    return (refusal.status() or "").removeprefix("StatusCode.")


def _declare(name: str, array: Tensor) -> InferInput:
    return InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))


def _contract(tensor: Any, promised: Mapping[str, tuple[int, ...]]) -> TensorContract:
    """An input or output as the server describes it; its first axis is the batch."""
    shape = tuple(int(size) for size in tensor.shape[1:])
    if shape == (1,) and promised.get(tensor.name) == ():
        shape = ()
    return TensorContract(name=tensor.name, dtype=np.dtype(triton_to_np_dtype(tensor.datatype)).name, shape=shape)
