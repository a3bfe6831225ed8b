"""Children that work on hostile bytes: whatever they do, the service lives on and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.common import child, errors
from services.common.child import ChildLimits, child_stream, run_in_child
from tests.unit.common import child_functions as work

MiB = 1 << 20


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie counts as alive, because nothing may be left."""
    return psutil.pid_exists(pid)


async def gone(pid: int, within_s: float = 5.0) -> bool:
    until = time.monotonic() + within_s
    while is_alive(pid):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.01)
    return True


async def test_a_function_in_a_child_gives_its_result() -> None:
    assert await run_in_child(work.add, 2, 3) == 5
    assert await run_in_child(work.own_pid) != os.getpid()


@pytest.mark.parametrize(
    "value", [None, True, 7, -1.5, "ä", b"\x00\xff", [1, [b"", {"a": b"x"}]], {"b": [b"1", b"2"]}, "x" * 300_000]
)
async def test_values_travel_unchanged(value: Any) -> None:
    assert await run_in_child(work.echo, value) == value


async def test_a_warm_child_costs_milliseconds() -> None:
    child.preload("tests.unit.common.child_functions")
    await run_in_child(work.add, 1, 1)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        await run_in_child(work.add, 1, 1)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.1


@pytest.mark.parametrize(
    ("function", "limits", "reason"),
    [
        (work.crash, ChildLimits(), "DECODER_DIED"),
        (work.leave_quietly, ChildLimits(), "DECODER_DIED"),
        (work.spin, ChildLimits(cpu_s=1), "DECODE_TIMEOUT"),
        (work.spin, ChildLimits(wall_s=0.3), "DECODE_TIMEOUT"),
        (work.have_a_fault, ChildLimits(), "INTERNAL"),
    ],
)
async def test_a_bad_end_of_a_child_is_a_typed_error(function: Any, limits: ChildLimits, reason: str) -> None:
    with pytest.raises(errors.MasqueradeError) as raised:
        await run_in_child(function, limits=limits, about="hostile.mp4")
    assert raised.value.reason == reason
    assert await run_in_child(work.add, 1, 1) == 2


async def test_the_signal_that_ended_a_child_is_named() -> None:
    with pytest.raises(errors.DecoderDied) as raised:
        await run_in_child(work.crash, about="hostile.mp4")
    assert raised.value.fields == {"how": "SIGSEGV", "path": "hostile.mp4", "function": f"{work.__name__}:crash"}


async def test_memory_beyond_the_limit_is_refused() -> None:
    limits = ChildLimits(memory_bytes=64 * MiB)
    assert await run_in_child(work.eat_memory, 16 * MiB, limits=limits) == 16 * MiB
    with pytest.raises(errors.MediaLimitExceeded):
        await run_in_child(work.eat_memory, 256 * MiB, limits=limits)


@pytest.mark.parametrize("function", [work.swallow_want_of_memory, work.fail_like_ffmpeg, work.fail_without_a_word])
async def test_every_want_of_memory_ends_the_child_at_once_and_is_named(function: Any) -> None:
    begin = time.monotonic()
    with pytest.raises(errors.MediaLimitExceeded) as raised:
        async with child_stream(function, limits=ChildLimits(memory_bytes=64 * MiB), about="hostile.mp4") as stream:
            await stream.receive()
    assert raised.value.fields["limit"] == "memory"
    assert time.monotonic() - begin < 5


async def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.MasqueradeError):
        await run_in_child(work.write_much, str(tmp_path / "much"), limits=ChildLimits(file_bytes=4096))
    assert (tmp_path / "much").stat().st_size <= 4096


async def test_a_typed_error_comes_back_whole() -> None:
    with pytest.raises(errors.NotAVideo) as raised:
        await run_in_child(work.refuse, about="poem.txt")
    assert raised.value.fields == {"found": "text/plain", "path": "poem.txt"}
    assert raised.value.remedy == "give a video"
    assert raised.value.violations == (errors.Violation("asset", "is a poem"),)


async def test_a_child_holds_only_its_own_conversation_and_what_it_was_passed() -> None:
    assert len(await run_in_child(work.open_descriptors)) == 1


async def test_shared_memory_is_passed_by_descriptor() -> None:
    fd = os.memfd_create("shared")
    try:
        os.truncate(fd, 4096)
        assert await run_in_child(work.write_into, "pixels", fds=[fd]) == 1
        assert os.pread(fd, 6, 0) == b"pixels"
    finally:
        os.close(fd)


async def test_a_stream_is_heard_to_its_end() -> None:
    async with child_stream(work.count_to, 500) as stream:
        heard = [message["number"] async for message in stream]
        assert stream.result == "done"
    assert heard == list(range(500))


async def test_a_stream_answers() -> None:
    async with child_stream(work.answer_each) as stream:
        for number in range(3):
            await stream.send({"ask": number})
            assert await stream.receive() == [{"ask": number}, number]
        await stream.send("enough")
        assert [message async for message in stream] == []
        assert stream.result == 3


async def test_a_stream_whose_child_dies_gives_what_it_said_and_then_the_error() -> None:
    heard: list[int] = []

    async def hear() -> None:
        async with child_stream(work.die_after, 3) as stream:
            async for message in stream:
                heard.append(message)

    with pytest.raises(errors.DecoderDied) as raised:
        await hear()
    assert heard == [0, 1, 2]
    assert raised.value.fields["how"] == "SIGKILL"


@pytest.mark.parametrize("function", [work.speak_nonsense, work.promise_too_much])
async def test_a_child_that_was_taken_over_is_an_error(function: Any) -> None:
    with pytest.raises(errors.DecoderDied):
        async with child_stream(function) as stream:
            await stream.receive()


async def test_a_child_that_floods_waits_until_it_is_heard() -> None:
    async with child_stream(work.count_to, 200_000) as stream:
        assert (await stream.receive())["number"] == 0
        await asyncio.sleep(0.05)
        assert (await stream.receive())["number"] == 1


async def test_leaving_a_stream_ends_its_child() -> None:
    async with child_stream(work.say_pid_then_sleep) as stream:
        pid = await stream.receive()
        assert is_alive(pid)
    assert await gone(pid)


async def test_cancelling_ends_the_child_at_once() -> None:
    begin = time.perf_counter()
    task = asyncio.create_task(run_in_child(work.sleep, 60))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - begin < 2


async def test_a_stream_may_be_cancelled_at_any_step_and_again_while_it_is_cleaned_up() -> None:
    async def hear() -> None:
        async with child_stream(work.count_to, 2) as stream:
            async for _ in stream:
                pass

    await hear()
    before = len(os.listdir("/proc/self/fd"))
    for steps in range(24):
        for steps_more in range(6):
            hearing = asyncio.create_task(hear())
            for _ in range(steps):
                await asyncio.sleep(0.0001)
            hearing.cancel()
            for _ in range(steps_more):
                await asyncio.sleep(0)
            hearing.cancel()
            await asyncio.wait({hearing}, timeout=5)
            # A socket that nobody closed warns when it is forgotten, and a warning is an error here.
            assert hearing.done()
    await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_many_children_at_once() -> None:
    assert await asyncio.gather(*(run_in_child(work.add, n, n) for n in range(20))) == [2 * n for n in range(20)]


async def test_a_killed_nursery_is_an_error_and_then_replaced() -> None:
    async with child_stream(work.say_pid_then_sleep) as stream:
        pid = await stream.receive()
        nursery = psutil.Process(pid).ppid()
        os.kill(nursery, signal.SIGKILL)
        with pytest.raises(errors.DecoderDied):
            await stream.receive()
    assert await gone(pid)
    assert await run_in_child(work.add, 1, 2) == 3


async def test_no_descriptor_is_left() -> None:
    await run_in_child(work.add, 1, 1)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await run_in_child(work.add, 1, 1)
    assert len(os.listdir("/proc/self/fd")) <= before


OWNER = """
import asyncio
from services.common.child import child_stream
from tests.unit.common import child_functions as work

async def main():
    async with child_stream(work.say_pid_then_sleep) as stream:
        print(await stream.receive(), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_killed_parent_takes_its_children_with_it() -> None:
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    assert is_alive(pid)
    owner.kill()
    await owner.communicate()
    assert await gone(pid)
