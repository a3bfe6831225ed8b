"""The peak of memory of a process and its children."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from services.common.tree_memory import TreeMemory

ROOT = Path(__file__).parents[3]
CHILD = "import sys; held = bytearray(b'x') * (64 << 20); print('held', flush=True); sys.stdin.read()"


async def test_a_peak_is_remembered_and_a_childs_memory_counts() -> None:
    # In a process of its own: children of other tests may end beside ours, and what they held would be missing.
    here = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, cwd=ROOT, stdout=PIPE)
    said, _ = await here.communicate()
    before, with_child, afterwards = map(float, said.split())
    assert before > 5
    assert 60 < with_child - before < 120
    assert afterwards == with_child


async def looked() -> list[float]:
    """The peak before, with and after a child."""
    memory = TreeMemory(every_s=3600)
    async with memory.watched() as peak:
        await memory.look()
        before = peak.mib
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, stdin=PIPE, stdout=PIPE)
        assert child.stdout is not None
        assert await child.stdout.readline() == b"held\n"
        await memory.look()
        await child.communicate(b"")
        with_child = peak.mib
        await memory.look()
        return [before, with_child, peak.mib]


async def test_it_looks_by_itself_and_one_who_comes_later_sees_too() -> None:
    memory = TreeMemory(every_s=0.01)
    async with memory.watched() as first:
        await asyncio.sleep(0.3)
        async with memory.watched() as second:
            await asyncio.sleep(0.3)
    assert first.mib >= second.mib > 5


if __name__ == "__main__":
    print(*asyncio.run(looked()))
