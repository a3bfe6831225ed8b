"""How long a step waits for its peer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable

import pytest

from services.common.errors import InvalidSpec, MasqueradeError, Overloaded, Unavailable
from services.orchestrator import patience
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.failures import WorkFailed
from services.orchestrator.patience import BREAKS_ALONE, BREAKS_BESIDE_OTHERS, MOST_TRIES, Patience
from services.orchestrator.solitude import Solitude

AWAY = "failed to connect to all addresses; last error: ipv4:10.0.0.3:50055: Connection refused"
BROKEN = "Socket closed"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(patience, "AWAY_S", 0.3)


def failing(errors: list[MasqueradeError], asked: list[int]) -> Callable[[], Awaitable[JsonObject]]:
    """A step that fails with these, one after the other, the last one for ever; then there is no end."""

    async def step() -> JsonObject:
        asked.append(1)
        raise errors[min(len(asked), len(errors)) - 1]

    return step


async def test_a_peer_that_is_away_is_waited_for_by_the_clock_and_not_by_tries() -> None:
    asked: list[int] = []

    async def step() -> JsonObject:
        asked.append(1)
        if len(asked) <= 2 * MOST_TRIES:
            raise Unavailable(peer="compositor", detail=AWAY)
        return {"done": True}

    assert await Patience().bear("compositor.RenderSegment", step) == {"done": True}


async def test_one_that_stays_away_fails_with_its_reason_and_without_our_addresses() -> None:
    asked: list[int] = []
    begun = time.monotonic()
    with pytest.raises(WorkFailed) as failed:
        await Patience().bear("compositor.RenderSegment", failing([Unavailable(peer="compositor", detail=AWAY)], asked))
    assert time.monotonic() - begun >= 0.3
    failure = failed.value.failure
    assert (failure.reason, failure.stage) == ("UNAVAILABLE", "compositor.RenderSegment")
    assert "10.0.0.3" not in str(failure.to_json())
    assert failure.fields["peer"] == "compositor"


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (Unavailable(peer="compositor", detail=BROKEN), BREAKS_BESIDE_OTHERS + BREAKS_ALONE),
        (Overloaded(what="the compositor", retry_after_s=1), MOST_TRIES),
    ],
)
async def test_a_call_that_breaks_off_or_is_refused_for_now_is_tried_so_many_times(
    error: MasqueradeError, tries: int
) -> None:
    asked: list[int] = []
    with pytest.raises(WorkFailed):
        await Patience().bear("compositor.RenderSegment", failing([error], asked))
    assert len(asked) == tries


async def test_a_request_that_kills_its_peer_again_and_again_is_given_up() -> None:
    asked: list[int] = []
    # Each death is followed by a while in which nobody is there.
    deaths = [Unavailable(peer="compositor", detail=text) for text in (BROKEN, AWAY, AWAY)] * 20
    with pytest.raises(WorkFailed) as failed:
        await Patience().bear("compositor.RenderSegment", failing(list(deaths), asked))
    assert failed.value.failure.reason == "INTERNAL"
    assert "the compositor died 5 times" in failed.value.failure.error().message()
    assert len(asked) == 3 * (BREAKS_BESIDE_OTHERS + BREAKS_ALONE - 1) + 1


async def test_what_will_not_change_fails_at_once() -> None:
    asked: list[int] = []
    with pytest.raises(WorkFailed):
        await Patience().bear("ingest.Index", failing([InvalidSpec(field="keep")], asked))
    assert len(asked) == 1


async def test_calls_beside_one_that_kills_their_service_are_done_and_only_that_one_is_given_up() -> None:
    patience, alive, inside = Patience(), [asyncio.Event()], set[str]()

    async def call(name: str) -> JsonObject:
        """Each call ends when the service dies; the poison kills it."""
        service = alive[0]
        inside.add(name)
        try:
            if name == "poison":
                await asyncio.sleep(0.002)
                alive[0] = asyncio.Event()
                service.set()
                raise Unavailable(peer="compositor", detail=BROKEN)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await service.wait()
                raise Unavailable(peer="compositor", detail=BROKEN)
            return {"done": name}
        finally:
            inside.discard(name)

    names = ["one", "poison", "two", "three"]
    async with asyncio.timeout(20):
        ends = await asyncio.gather(
            *(patience.bear("compositor.RenderSegment", functools.partial(call, name)) for name in names),
            return_exceptions=True,
        )
    assert [end if isinstance(end, dict) else type(end) for end in ends] == [
        {"done": "one"},
        WorkFailed,
        {"done": "two"},
        {"done": "three"},
    ]
    assert not inside


async def test_one_that_waits_to_be_alone_and_is_cancelled_stops_nobody() -> None:
    solitude = Solitude()
    async with solitude.place(alone=False):
        waiting = asyncio.create_task(_placed(solitude, alone=True))
        await asyncio.sleep(0)
        after = asyncio.create_task(_placed(solitude, alone=False))
        await asyncio.sleep(0.01)
        assert not after.done()
        waiting.cancel()
        async with asyncio.timeout(5):
            assert await after
    async with asyncio.timeout(5):
        assert await _placed(solitude, alone=True)


async def _placed(solitude: Solitude, *, alone: bool) -> bool:
    async with solitude.place(alone=alone):
        return True
