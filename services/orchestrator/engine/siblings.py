"""What the bodies of one process know of each other without asking the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from services.orchestrator.engine.port import JsonObject
from services.orchestrator.patience import Patience

_STOPPED_WITHIN_S = 5.0
_BROKEN_KEPT = 1000


class InOrder:
    """Hands answers on in the order of their numbers, each once, however they arrive."""

    def __init__(self, receiver: Callable[[JsonObject], object] | None) -> None:
        self._receiver = receiver
        self._next = 0
        self._early: dict[int, JsonObject] = {}

    def arrived(self, number: int, answer: JsonObject) -> None:
        """An answer is there; one that was there before is nothing new."""
        if self._receiver is None or number < self._next:
            return
        self._early[number] = answer
        while self._next in self._early:
            answer = self._early.pop(self._next)
            self._next += 1
            self._receiver(answer)


class Siblings:
    """Which bodies run here, which of them have ended, and which batches have failed.

    DBOS learns of a finished child by polling. A child that ran in this process rings a bell instead, so that its
    parent looks at once; of one that ran elsewhere the parent's own look a second later tells.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self._is_interrupted = False
        self._bells: dict[str, asyncio.Event] = {}
        self._broken: dict[str, None] = {}
        self._listeners: dict[str, InOrder] = {}
        self.patience = Patience()

    @contextlib.contextmanager
    def alive(self, workflow: str) -> Iterator[None]:
        """Count the current task, which runs a workflow's body, among those to interrupt at a stop."""
        task = asyncio.current_task()
        assert task is not None, "a body runs in a task"
        if self._is_interrupted:
            # Queues are looked at until the database is closed. What begins now would fail on the way, and for good.
            raise asyncio.CancelledError
        self._tasks[task] = workflow
        try:
            yield
        finally:
            self._tasks.pop(task, None)
            if (bell := self._bells.get(workflow)) is not None:
                bell.set()

    @property
    def running(self) -> frozenset[str]:
        """Workflows whose bodies run here."""
        return frozenset(self._tasks.values())

    async def interrupt(self) -> None:
        """Cancel every body. DBOS writes no outcome for a cancelled task, so each goes on at the next start."""
        self._is_interrupted = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOPPED_WITHIN_S)

    @contextlib.contextmanager
    def bells(self, children: Sequence[str]) -> Iterator[dict[str, asyncio.Event]]:
        """Bells that ring when children of this process end, for as long as the block lasts."""
        mine = {child: asyncio.Event() for child in children}
        self._bells.update(mine)
        try:
            yield mine
        finally:
            # A second run of the same parent, after the first was fenced off, may have hung up its own meanwhile.
            for child, bell in mine.items():
                if self._bells.get(child) is bell:
                    del self._bells[child]

    @contextlib.contextmanager
    def listening(self, batch: str, receiver: Callable[[JsonObject], object] | None) -> Iterator[None]:
        """Hand a batch's answers to its owner, in order, for as long as the block lasts; then forget the batch."""
        mine = self._listeners[batch] = InOrder(receiver)
        try:
            yield
        finally:
            if self._listeners.get(batch) is mine:
                del self._listeners[batch]
                self._broken.pop(batch, None)

    def tell(self, batch: str, number: int, answer: JsonObject) -> None:
        """An item of a batch has its answer. Its owner hears of it if it is here."""
        if (listener := self._listeners.get(batch)) is not None:
            listener.arrived(number, answer)

    def break_off(self, batch: str) -> None:
        """Say that an item of a batch failed: those that have not begun need not begin."""
        self._broken[batch] = None
        # One whose owner is in another process is forgotten by nobody here.
        while len(self._broken) > _BROKEN_KEPT:
            self._broken.pop(next(iter(self._broken)))

    def is_broken(self, batch: str) -> bool:
        """Whether an item of the batch has failed in this process."""
        return batch in self._broken
