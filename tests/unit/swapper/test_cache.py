"""What is kept between calls: bounded, made once, and never an old error."""

from __future__ import annotations

import asyncio

import pytest

from services.swapper.cache import ByteCache


class Workshop:
    """Makes bytes, and counts how often."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def make(self, name: str, size: int = 10) -> bytes:
        self.made.append(name)
        await self.gate.wait()
        return bytes(size)


async def test_the_least_recently_used_goes_first() -> None:
    shop, cache = Workshop(), ByteCache[bytes](25, nbytes=len)
    for name in ("a", "b", "a", "c", "a", "b"):
        await cache.get(name, lambda name=name: shop.make(name))
    # When c came, b was older than a.
    assert shop.made == ["a", "b", "c", "b"]
    assert cache.used_bytes == 20


async def test_what_is_larger_than_the_bound_is_made_and_not_kept() -> None:
    shop, cache = Workshop(), ByteCache[bytes](25, nbytes=len)
    for _ in range(2):
        assert len(await cache.get("a", lambda: shop.make("a", 26))) == 26
    assert shop.made == ["a", "a"]
    assert cache.used_bytes == 0


async def test_many_who_ask_at_once_share_one_making() -> None:
    shop, cache = Workshop(), ByteCache[bytes](25, nbytes=len)
    shop.gate.clear()
    asking = [asyncio.create_task(cache.get("a", lambda: shop.make("a"))) for _ in range(5)]
    await asyncio.sleep(0)
    # One of them leaves; the others still get theirs.
    asking[0].cancel()
    await asyncio.sleep(0)
    shop.gate.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert shop.made == ["a"]
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [bytes(10)] * 4


async def test_a_failed_making_is_tried_again() -> None:
    cache = ByteCache[bytes](25, nbytes=len)
    attempts = 0

    async def make() -> bytes:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OSError("the store is away")
        return b"there"

    with pytest.raises(OSError, match="away"):
        await cache.get("a", make)
    assert await cache.get("a", make) == b"there"
