"""What the bodies of one process know of each other, while it stops."""

from __future__ import annotations

import asyncio

import pytest

from services.orchestrator.engine.siblings import Siblings


async def test_nothing_begins_once_the_bodies_were_interrupted() -> None:
    siblings = Siblings()
    begun = asyncio.Event()

    async def body(name: str) -> None:
        with siblings.alive(name):
            begun.set()
            await asyncio.sleep(60)

    running = asyncio.create_task(body("first"))
    await begun.wait()
    await siblings.interrupt()
    assert running.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await body("late")
    assert not siblings.running
