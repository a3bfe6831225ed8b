"""When a process is called dead, and when not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from services.common.errors import InvalidSetting
from services.orchestrator.engine.dbos_engine import DbosEngine, DbosSettings
from services.orchestrator.engine.liveness import Liveness, executor_lock, held, taken, version_lock
from services.orchestrator.engine.port import Strays
from services.orchestrator.engine.recovery import Reaper
from tests.support.postgres import PostgresServer, postgres_server, requires_postgres

pytestmark = requires_postgres


class Recorder(DbosEngine):
    """An engine that has strays and says what it was told to recover."""

    def __init__(self, strays: Strays) -> None:
        super().__init__(DbosSettings(database=""))
        self.found = strays
        self.recovered: list[str] = []

    async def strays(self) -> Strays:
        return self.found

    async def recover(
        self, executors: Sequence[str] = (), *, versions: Sequence[str] = (), runs: Sequence[str] = ()
    ) -> int:
        self.recovered += [*executors, *versions, *runs]
        return 1


async def within(seconds: float, check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(seconds):
        is_so = await check()
        while not is_so:
            await asyncio.sleep(0.02)
            is_so = await check()


async def looks(reaper: Reaper, engine: Recorder, wanted: list[str]) -> None:
    async def look() -> bool:
        await reaper.look()
        return sorted(engine.recovered) == wanted

    await within(20, look)


async def test_one_whose_lock_is_free_for_long_is_relieved_and_one_that_lives_is_not(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    living = Liveness(url, "living", "v1", lease_s=2)
    await asyncio.to_thread(living.take)
    engine = Recorder(Strays(executors=frozenset({"living", "dead"}), versions=frozenset({"v0", "v1"})))
    reaper = Reaper(engine, url, "me", version="v2", dead_after_s=0.5)
    await reaper.hold()
    try:
        began = asyncio.get_running_loop().time()
        await looks(reaper, engine, ["dead", "v0"])
        assert asyncio.get_running_loop().time() - began >= 0.5, "it was called dead at once"
        assert "living" not in engine.recovered
    finally:
        await reaper.let_go()
        await asyncio.to_thread(living.close)


async def test_a_restart_of_the_database_makes_nobody_dead() -> None:
    with postgres_server() as server:
        url = server.new_database()
        engine = Recorder(Strays(executors=frozenset({"other"})))
        reaper = Reaper(engine, url, "me", version="v1", dead_after_s=4.0)
        other = Liveness(url, "other", "v1", lease_s=2)
        await asyncio.to_thread(other.take)
        await reaper.hold()
        reaper.start()
        try:
            await asyncio.sleep(1)
            await asyncio.to_thread(server.restart, immediate=True, away_s=1.0)
            locks = [executor_lock("me"), executor_lock("other")]

            async def both_are_back() -> bool:
                return len(await asyncio.to_thread(held, url, locks)) == 2

            await within(10, both_are_back)
            await asyncio.sleep(1)
            assert engine.recovered == []
        finally:
            await reaper.halt()
            await reaper.let_go()
            await asyncio.to_thread(other.close)


async def test_what_this_process_lost_is_begun_again_after_a_while(postgres: PostgresServer) -> None:
    engine = Recorder(Strays(runs=frozenset({"job_a.000"})))
    reaper = Reaper(engine, postgres.new_database(), "me", version="v1", dead_after_s=1)
    await reaper.hold()
    try:
        await reaper.look()
        await reaper.look()
        assert engine.recovered == [], "it may just be beginning"
        await asyncio.sleep(0.5)
        await reaper.look()
        assert engine.recovered == ["job_a.000"]
    finally:
        await reaper.let_go()


async def test_only_one_holds_the_lock_of_the_dead(postgres: PostgresServer) -> None:
    url = postgres.new_database()

    def hold_twice() -> tuple[bool, bool]:
        with taken(url, version_lock("v0")) as first, taken(url, version_lock("v0")) as second:
            return first, second

    assert await asyncio.to_thread(hold_twice) == (True, False)


async def test_a_session_that_says_nothing_is_ended_by_the_server(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.new_database()
    stopped = Liveness(url, "stopped", "v1", lease_s=0.5)
    # As a stopped process does: it takes the lock, and its thread says nothing.
    assert stopped._retake()
    try:

        async def is_free() -> bool:
            return not await asyncio.to_thread(held, url, [executor_lock("stopped")])

        await within(10, is_free)
    finally:
        stopped.close()


async def test_a_name_that_is_taken_is_refused(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    first, second = (Liveness(url, "one", "v1", lease_s=0.5) for _ in range(2))
    await asyncio.to_thread(first.take)
    try:
        with pytest.raises(InvalidSetting):
            await asyncio.to_thread(second.take)
    finally:
        await asyncio.to_thread(first.close)
        await asyncio.to_thread(second.close)
    assert not await asyncio.to_thread(held, url, [executor_lock("one")])
