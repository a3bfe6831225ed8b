"""Link: objects in, one Timeline out, in bounded memory and time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from masquerade.timeline import Shard, Timeline, read_shard, read_textures, read_timeline
from services.common.errors import AnswerMismatch, ObjectCorrupt, ObjectMissing
from services.common.media.index import Segment
from services.common.pool import Pool
from services.common.store.folder import FolderStore
from services.detector.linking import Linked, SegmentSeen, link
from services.detector.observations import Observations, write_observations
from tests.support.observed import Actor, split

ACTORS = [
    Actor(0, 100, x=300, look=1, missed=frozenset(range(21, 27))),
    Actor(10, 100, x=60, look=2),
    Actor(100, 200, x=200, look=1),
    Actor(30, 33, x=450),
]


async def stored(store: FolderStore, observed: Sequence[Observations]) -> list[SegmentSeen]:
    seen = []
    for number, part in enumerate(observed):
        key = f"t/jobs/j/analyse/{number}"
        await store.put_bytes(key, write_observations(part))
        seen.append(SegmentSeen(Segment(number, part.first, part.last), key))
    return seen


async def linked(
    store: FolderStore, seen: Sequence[SegmentSeen], *, frames: int = 200, name: str = "timeline"
) -> Linked:
    pool = Pool(1)
    try:
        return await link(
            seen, frames=frames, output_key=f"t/jobs/j/{name}", store=store, pool=pool, made_by={"runtime": "none"}
        )
    finally:
        await pool.close()


async def shards(store: FolderStore, timeline: Timeline) -> list[Shard]:
    return [read_shard(await store.get_bytes(ref.key)) for ref in timeline.segments]


async def test_a_timeline_says_who_is_where(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    seen = await stored(store, split(ACTORS, 200, 3, cuts=[100]))
    done = await linked(store, seen)
    timeline = done.timeline
    assert read_timeline(await store.get_bytes(done.stored.key)) == timeline
    assert [(t.person, t.first, t.last, t.rows, t.observed) for t in timeline.tracks] == [
        (0, 0, 100, 100, 94),
        (1, 10, 100, 90, 90),
        (0, 100, 200, 100, 100),
    ]
    assert [(p.first, p.frames) for p in timeline.people] == [(0, 200), (10, 90)]
    assert timeline.cuts == (100,)
    assert any("1 short" in note for note in timeline.notes)
    textures = read_textures(await store.get_bytes(timeline.textures_key))
    assert textures.track.tolist() == [0, 1, 2]
    assert sum(len(shard) for shard in await shards(store, timeline)) == sum(t.rows for t in timeline.tracks)


async def test_the_timeline_does_not_depend_on_the_split(tmp_path: Path) -> None:
    made = []
    for parts in (1, 3, 7):
        store = FolderStore(tmp_path / str(parts))
        done = await linked(store, await stored(store, split(ACTORS, 200, parts, cuts=[100])))
        rows = await shards(store, done.timeline)
        columns = [np.concatenate([getattr(shard, name) for shard in rows]) for name in Shard.__slots__]
        textures = await store.get_bytes(done.timeline.textures_key)
        timeline = done.timeline
        made.append((timeline.tracks, timeline.people, timeline.cuts, timeline.notes, textures, columns))
    for other in made[1:]:
        assert other[:5] == made[0][:5]
        assert all(np.array_equal(a, b) for a, b in zip(other[5], made[0][5], strict=True))


async def test_a_second_call_finds_the_work_of_the_first(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    seen = await stored(store, split(ACTORS, 200, 3, cuts=[100]))
    first, second = await linked(store, seen), await linked(store, seen)
    assert (first.is_reused, second.is_reused) == (False, True)
    assert second.timeline == first.timeline


async def test_a_video_without_faces_has_a_timeline_without_tracks(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    done = await linked(store, await stored(store, split([], 40, 2)), frames=40)
    assert (done.timeline.tracks, done.timeline.people, done.timeline.textures_key) == ((), (), "")
    assert [len(shard) for shard in await shards(store, done.timeline)] == [0, 0]


async def test_segments_that_do_not_cover_the_video_are_an_error(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    seen = await stored(store, split(ACTORS, 200, 3, cuts=[100]))
    with pytest.raises(AnswerMismatch):
        await linked(store, seen[:2])
    with pytest.raises((AnswerMismatch, ObjectCorrupt)):
        await linked(store, [seen[1], seen[0], seen[2]])
    with pytest.raises(ObjectMissing):
        await linked(store, [*seen[:2], SegmentSeen(seen[2].segment, "t/jobs/j/analyse/none")])


LONG = """
import sys, time
import numpy as np
from services.detector.observations import Observations
from services.detector.people import people_of
from services.detector.rows import ShardMaker
from services.detector.tracing import Tracer
from masquerade.timeline import write_shard
from tests.support.observed import Actor, observe

FRAMES, SEGMENT = 216_000, 960
pattern = observe([Actor(0, SEGMENT)], 0, SEGMENT)
noise = np.random.default_rng(0).integers(-4, 5, pattern.points.shape, dtype=np.int16)

def segments():
    for first in range(0, FRAMES, SEGMENT):
        columns = {name: getattr(pattern, name) for name in Observations.__slots__}
        columns |= dict(first=first, last=first + SEGMENT, frame=pattern.frame + first,
                        chain=pattern.chain + first * 8, points=pattern.points + noise)
        yield Observations(**columns)

def spent():
    # Not getrusage: its peak is inherited from the process that forked, which is a large pytest.
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return time.process_time(), int(peak.split()[1]) / 1024

tracer = Tracer()
for seen in segments():
    tracer.add(seen)
tracing = tracer.finish()
people = people_of(tracing.tracks, tracing.cuts)
print("tracing", *spent(), file=sys.stderr)
maker = ShardMaker(tracing)
rows = 0
for seen in segments():
    rows += sum(len(shard) for shard in maker.add(seen) if write_shard(shard))
rows += sum(len(shard) for shard in maker.finish())
cpu, peak = spent()
print(len(tracing.tracks), len(people), rows, cpu, peak)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hours_of_one_face_are_linked_in_little_memory_and_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LONG],
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
        cwd=Path(__file__).parents[3],
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    tracks, people, rows, cpu_s, peak_mib = done.stdout.split()
    assert (int(tracks), int(people), int(rows)) == (1, 1, 216_000)
    assert float(peak_mib) < 300, done.stderr
    assert float(cpu_s) < 60, done.stderr
