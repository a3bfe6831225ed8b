"""What waits for the model goes to it together.

Groups in flight ask for landmarks crop by crop, as their chains move. While the model is busy their crops wait; when it
is free all that waits becomes one batch. Nothing is held back to fill a batch: alone in the queue is a batch of one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Answers: TypeAlias = dict[str, NDArray[Any]]
Infer: TypeAlias = Callable[[NDArray[np.uint8]], Awaitable[Answers]]


class Batcher:
    """Joins single images into batches for one model. What it may hold is bounded by its callers, who wait."""

    def __init__(self, infer: Infer, *, most: int, in_flight: int) -> None:
        """Args:
        infer: (b, h, w, 3) uint8 to named arrays with b rows.
        most: images in one batch.
        in_flight: batches that the model gets at once.
        """
        self._infer = infer
        self._most = most
        self._in_flight = in_flight
        self._waiting: deque[tuple[NDArray[np.uint8], asyncio.Future[Answers]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def one(self, image: NDArray[np.uint8]) -> Answers:
        """The model's answer for one image: each output's row."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answers] = loop.create_future()
        self._waiting.append((image, answer))
        if not self._is_due:
            # One turn of the loop later, so that what is asked in the same turn shares a batch.
            self._is_due = True
            loop.call_soon(self._start)
        return await answer

    def _start(self) -> None:
        self._is_due = False
        while self._waiting and len(self._running) < self._in_flight:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            # Who was cancelled while waiting needs no answer.
            batch = [(image, answer) for image, answer in batch if not answer.done()]
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _call(self, images: NDArray[np.uint8]) -> Answers:
        return await self._infer(images)

    async def _run(self, batch: list[tuple[NDArray[np.uint8], asyncio.Future[Answers]]]) -> None:
        images = np.stack([image for image, _ in batch])
        inference: asyncio.Future[Answers] = asyncio.get_running_loop().create_task(self._call(images))
        waiting = {answer for _, answer in batch}

        def heard_no_more(answer: asyncio.Future[Answers]) -> None:
            # The last who listened has gone: the model stops at once instead of finishing for nobody.
            waiting.discard(answer)
            if not waiting and not inference.done():
                inference.cancel()

        for _, answer in batch:
            answer.add_done_callback(heard_no_more)
        try:
            outputs = await inference
        except asyncio.CancelledError:
            for _, answer in batch:
                answer.cancel()
        except Exception as error:  # noqa: BLE001  handed to everyone who waits, not hidden
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for row, (_, answer) in enumerate(batch):
                if not answer.done():
                    answer.set_result({name: output[row] for name, output in outputs.items()})
