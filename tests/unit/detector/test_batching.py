"""What waits for a model travels together, and who stops waiting is not waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.detector.batching import Answers, Batcher


class Model:
    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = asyncio.Event()
        self.cancelled = 0

    async def infer(self, images: NDArray[np.uint8]) -> Answers:
        self.sizes.append(len(images))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {"sum": images.reshape(len(images), -1).sum(axis=1)}


def image(value: int) -> NDArray[np.uint8]:
    return np.full((2, 2, 3), value, np.uint8)


async def test_answers_go_to_who_asked() -> None:
    model = Model()
    model.gate.set()
    batcher = Batcher(model.infer, most=4, in_flight=1)
    answers = await asyncio.gather(*(batcher.one(image(value)) for value in range(10)))
    assert [int(answer["sum"]) for answer in answers] == [12 * value for value in range(10)]
    assert model.sizes == [4, 4, 2]


async def test_no_more_batches_than_allowed_are_in_flight() -> None:
    model = Model()
    batcher = Batcher(model.infer, most=2, in_flight=2)
    waiting = [asyncio.create_task(batcher.one(image(value))) for value in range(8)]
    await asyncio.sleep(0.01)
    assert model.sizes == [2, 2]
    model.gate.set()
    await asyncio.gather(*waiting)
    assert sum(model.sizes) == 8


async def test_an_error_reaches_all_who_wait_and_the_next_batch_still_goes() -> None:
    fails = True

    async def infer(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        await asyncio.sleep(0)
        if fails:
            raise RuntimeError("the model broke")
        return {"n": np.zeros(len(images))}

    batcher = Batcher(infer, most=4, in_flight=1)
    found = await asyncio.gather(*(batcher.one(image(1)) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [RuntimeError] * 3
    fails = False
    assert "n" in await batcher.one(image(1))


async def test_when_the_last_who_listened_has_gone_the_model_stops() -> None:
    model = Model()
    batcher = Batcher(model.infer, most=4, in_flight=1)
    waiting = [asyncio.create_task(batcher.one(image(value))) for value in range(2)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    await asyncio.sleep(0.01)
    assert model.cancelled == 0
    waiting[1].cancel()
    await asyncio.sleep(0.01)
    assert model.cancelled == 1
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]
