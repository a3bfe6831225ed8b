"""The conductor of Link: reads all segments' observations twice, in a stream, and writes the Timeline.

The first pass finds tracks, cuts and textures and needs no landmarks; between the passes tracks become people; the
second makes the shards. What is held at any time is two segments and what is known of the tracks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from masquerade.timeline import (
    Person,
    Shard,
    ShardRef,
    Timeline,
    TimelineFormatError,
    Track,
    TrackTextures,
    read_timeline,
    write_shard,
    write_textures,
    write_timeline,
)
from services.common.errors import AnswerMismatch, ObjectCorrupt
from services.common.media.index import Segment
from services.common.pool import Pool
from services.common.store.objects import ObjectInfo, ObjectStore
from services.detector.observations import Observations, read_observations
from services.detector.people import Someone, people_of
from services.detector.rows import ShardMaker
from services.detector.tracing import Tracer, Tracing

REVISION = "1"
"""Of Link's method: raised when the same observations give another Timeline."""


@dataclass(frozen=True, slots=True)
class SegmentSeen:
    """A segment and the key of its observations."""

    segment: Segment
    key: str


@dataclass(frozen=True, slots=True)
class Linked:
    """A Timeline and where it lies."""

    timeline: Timeline
    stored: ObjectInfo
    is_reused: bool


async def link(
    seen: Sequence[SegmentSeen],
    *,
    frames: int,
    output_key: str,
    store: ObjectStore,
    pool: Pool,
    made_by: Mapping[str, str],
) -> Linked:
    """Make one Timeline of all segments' observations.

    Args:
        seen: the segments of the whole video, in order.
        frames: how many frames the video has.
        output_key: key for the index. Shards and textures lie beside it, under `{output_key}-parts`.
        store: where everything lies.
        pool: for the work.
        made_by: what the report says of the analysis.

    Raises:
        AnswerMismatch: the segments do not cover the video.
        ObjectMissing, ObjectCorrupt: of the observations.
    """
    stored = await store.stat(output_key)
    if stored is not None:
        return Linked(await _stored_timeline(store, output_key), stored, is_reused=True)
    tracing = await _trace(seen, store, pool)
    if tracing.frames != frames:
        raise AnswerMismatch(asked=f"{frames} frames", answered=f"{tracing.frames} frames", peer="analysis")
    people = await pool.run(people_of, tracing.tracks, tracing.cuts)
    shards, rows = await _write_shards(seen, tracing, output_key, store, pool)
    textures = await _write_textures(tracing, output_key, store, pool)
    timeline = Timeline(
        width=tracing.width,
        height=tracing.height,
        frames=frames,
        segments=tuple(shards),
        tracks=_tracks(tracing, people, rows),
        people=_people(people, rows),
        cuts=tracing.cuts,
        textures_key=textures.key if textures else "",
        textures_digest=textures.digest if textures else "",
        made_by={**made_by, "link": REVISION},
        notes=_notes(tracing),
    )
    stored = await store.put_bytes(output_key, write_timeline(timeline))
    return Linked(timeline, stored, is_reused=False)


async def _stored_timeline(store: ObjectStore, key: str) -> Timeline:
    try:
        return read_timeline(await store.get_bytes(key))
    except TimelineFormatError as error:
        raise ObjectCorrupt(key=key, detail=str(error)) from error


async def _trace(seen: Sequence[SegmentSeen], store: ObjectStore, pool: Pool) -> Tracing:
    tracer = Tracer()
    for part in seen:
        observations = await _observations(part, store, pool, with_points=False)
        await pool.run(tracer.add, observations)
    return await pool.run(tracer.finish)


async def _observations(part: SegmentSeen, store: ObjectStore, pool: Pool, *, with_points: bool) -> Observations:
    content = await store.get_bytes(part.key)
    observations = await pool.run(read_observations, content, key=part.key, with_points=with_points)
    if (observations.first, observations.last) != (part.segment.first, part.segment.last):
        asked = f"frames {part.segment.first} to {part.segment.last}"
        raise AnswerMismatch(asked=asked, answered=f"{observations.first} to {observations.last}", peer="analysis")
    return observations


async def _write_shards(
    seen: Sequence[SegmentSeen], tracing: Tracing, output_key: str, store: ObjectStore, pool: Pool
) -> tuple[list[ShardRef], list[int]]:
    """The shards' places, and how many rows each track has in all of them."""
    maker = ShardMaker(tracing)
    refs: list[ShardRef] = []
    rows = np.zeros(len(tracing.tracks), np.int64)

    async def write(shards: Sequence[Shard]) -> None:
        for shard in shards:
            segment = seen[len(refs)].segment
            key = f"{output_key}-parts/shard-{segment.number:06d}"
            stored = await store.put_bytes(key, await pool.run(write_shard, shard))
            rows[:] += np.bincount(shard.track, minlength=len(rows))
            refs.append(ShardRef(len(refs), segment.first, segment.last, key, stored.digest, len(shard)))

    for part in seen:
        observations = await _observations(part, store, pool, with_points=True)
        await write(await pool.run(maker.add, observations))
    await write(await pool.run(maker.finish))
    return refs, rows.tolist()


async def _write_textures(tracing: Tracing, output_key: str, store: ObjectStore, pool: Pool) -> ObjectInfo | None:
    learned = [(track.number, track.learned) for track in tracing.tracks if track.learned is not None]
    if not learned:
        return None
    textures = TrackTextures(
        track=np.array([number for number, _ in learned], np.int32),
        mean=np.stack([texture.mean for _, texture in learned]),
        var=np.stack([texture.var for _, texture in learned]),
    )
    return await store.put_bytes(f"{output_key}-parts/textures", await pool.run(write_textures, textures))


def _tracks(tracing: Tracing, people: Sequence[Someone], rows: Sequence[int]) -> tuple[Track, ...]:
    person_of = {track.number: number for number, someone in enumerate(people) for track in someone.tracks}
    return tuple(
        Track(
            number=track.number,
            person=person_of[track.number],
            first=track.first,
            last=track.last,
            rows=rows[track.number],
            observed=track.observed,
            max_width_px=track.width_px,
            has_texture=track.learned is not None,
        )
        for track in tracing.tracks
    )


def _people(people: Sequence[Someone], rows: Sequence[int]) -> tuple[Person, ...]:
    made = []
    for number, someone in enumerate(people):
        best = max(someone.tracks, key=lambda track: (track.example[0], -track.example[1]))
        _, frame, (x0, y0, x1, y1) = best.example
        made.append(
            Person(
                number=number,
                first=min(track.first for track in someone.tracks),
                frames=sum(rows[track.number] for track in someone.tracks),
                box=(float(x0), float(y0), float(x1), float(y1)),
                example=frame,
            )
        )
    return tuple(made)


def _notes(tracing: Tracing) -> tuple[str, ...]:
    notes = []
    if tracing.removed:
        notes.append(f"{tracing.removed} short or doubtful tracks were left out")
    unlearned = sum(track.learned is None for track in tracing.tracks)
    if unlearned:
        notes.append(f"{unlearned} tracks are too short, small or turned for hands in front of them to be seen")
    return tuple(notes)
