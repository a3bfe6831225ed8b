"""The product's domain functions in a plain loop: one process, no RPC, no ring, no child, no job.

What the mesh costs above this is what being a mesh costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from masquerade.shards import read_shard, read_textures
from services.common.arrays import Alpha8
from services.common.inference.local import LocalModels
from services.common.inference.runtime import Runtime
from services.common.media.index import MediaIndex, Segment, write_index
from services.common.planes import Planes, rgb_view
from services.common.pool import Pool
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.compositor import blending, matte
from services.compositor.backgrounds import picture_background, read_picture
from services.compositor.carriage import Container
from services.compositor.children import assemble_files, packed_settings, verify_file
from services.compositor.encoding import EncodeSettings, SegmentEncoder, settings_for, shape_of
from services.compositor.faces import Cast, Placed
from services.detector.analysing import analyse_segment, room_for
from services.detector.detectors import detector
from services.detector.enrolling import Portrait, enroll
from services.detector.imaging import ImageLimits, open_picture
from services.detector.linking import SegmentSeen, link
from services.detector.looking import Looker
from services.detector.observations import write_observations
from services.ingest.decoding import decode_range
from services.ingest.indexing import index_video
from services.ingest.limits import MediaLimits
from services.ingest.upright import Uprighter
from services.segmenter.matting import Matting
from services.segmenter.models import matting_model
from services.swapper.engines import FaceCrop, Texture
from services.swapper.registry import complete, engine

MATTING = "selfie"
BATCH = 8


@dataclass(slots=True)
class OwnFrame:
    """A decoded frame in memory of its own."""

    index: int
    planes: Planes

    def release(self) -> None:
        """Nothing was lent."""


@dataclass(slots=True)
class Loop:
    """One video, transformed by calling functions.

    Attributes:
        source: the video.
        index: its index.
        runtime: where models run.
        pool: for functions that ask for one.
        store: a folder for what Link writes.
        local: models that a library runs by itself; the starter profile has none.
    """

    source: Path
    index: MediaIndex
    runtime: Runtime
    pool: Pool
    store: FolderStore
    local: LocalModels

    async def cast(self, portrait: Path) -> tuple[Cast, dict[int, Texture], object]:
        """Analyse, link, enrol: who is where, and the prepared source."""
        looker: Looker = detector("").make(self.runtime, self.pool, self.local)
        picture = open_picture(portrait.read_bytes(), name=portrait.name, limits=ImageLimits())
        identity, _ = await enroll([Portrait(portrait.name, picture)], looker=looker, pool=self.pool)
        frames = self.index.frames
        seen = await analyse_segment(
            self._own_frames(),
            first=0,
            last=frames,
            goes_on=False,
            room=room_for(self.index.width, self.index.height, budget_bytes=64 << 20),
            looker=looker,
            pool=self.pool,
        )
        await self.store.put_bytes("direct/seen", write_observations(seen))
        linked = await link(
            [SegmentSeen(Segment(0, 0, frames), "direct/seen")],
            frames=frames,
            output_key="direct/timeline",
            store=self.store,
            pool=self.pool,
            made_by={},
        )
        timeline = linked.timeline
        shards = [read_shard(await self.store.get_bytes(ref.key)) for ref in timeline.segments]
        cast = Cast(timeline, shards, {person.number: "direct" for person in timeline.people})
        textures = {}
        if timeline.textures_key:
            learned = read_textures(await self.store.get_bytes(timeline.textures_key))
            for track in timeline.tracks:
                found = learned.of(track.number)
                if found is not None:
                    textures[track.number] = Texture(*found)
        mesh = engine("mesh")
        return cast, textures, mesh.prepare(identity, complete(mesh, {}))

    async def render(
        self, out: Path, faces: tuple[Cast, dict[int, Texture], object] | None, background: Path | None
    ) -> int:
        """Swap, matte, blend and encode every frame; the number of frames."""
        encoder = SegmentEncoder(out, shape_of(self.index), EncodeSettings())
        behind = self._behind(background) if background else None
        waiting: deque[tuple[OwnFrame, list[tuple[Placed, blending.Patch]]]] = deque()
        mattes: dict[int, Alpha8] = {}
        for batch in _batches(self._decoded()):
            if behind is not None:
                mattes.update(await self._mattes(batch))
            for frame in batch:
                waiting.append((frame, _patches(frame, faces)))
            known = batch[-1].index - (matte.RADIUS_FRAMES if behind is not None else 0)
            while waiting and waiting[0][0].index <= known:
                self._finish(*waiting.popleft(), mattes, behind, encoder)
        while waiting:
            self._finish(*waiting.popleft(), mattes, behind, encoder)
        return encoder.finish()

    def complete(self, segment: Path, out: Path) -> None:
        """Put the file together and prove it, as every job does; here without a child."""
        index = write_index(self.index)
        settings = packed_settings(settings_for(Container.MP4.suffix, EncodeSettings()))
        how = {"container": Container.MP4.value, "settings": settings, "tags": {}}
        paths = {"source": str(self.source), "segments": [str(segment)], "output": str(out)}
        done = assemble_files(paths, index, [], how)
        verify_file({"file": str(out), "source": str(self.source)}, index, [], done["offset"])

    def _finish(
        self,
        frame: OwnFrame,
        patches: list[tuple[Placed, blending.Patch]],
        mattes: dict[int, Alpha8],
        behind: Planes | None,
        encoder: SegmentEncoder,
    ) -> None:
        alpha = None
        if behind is not None:
            near = range(
                max(0, frame.index - matte.RADIUS_FRAMES), min(self.index.frames, frame.index + matte.RADIUS_FRAMES + 1)
            )
            raw = np.stack([mattes[index] for index in near])
            alpha = matte.refine(matte.temporal_filter(raw, centre=frame.index - near.start), frame.planes.y)
            mattes.pop(frame.index - matte.RADIUS_FRAMES, None)
        for placed, patch in patches:
            blending.blend_patch(frame.planes, patch, placed.box[0], placed.box[1])
        if alpha is not None and behind is not None:
            blending.blend_background(frame.planes, behind, alpha)
        encoder.add(frame.planes)

    async def _mattes(self, batch: list[OwnFrame]) -> dict[int, Alpha8]:
        model = matting_model(MATTING)
        small = np.stack([rgb_view(frame.planes, width=model.width, height=model.height) for frame in batch])
        found = await Matting(self.runtime, self.pool, local=self.local).segment(small, model=MATTING)
        return {frame.index: one for frame, one in zip(batch, found, strict=True)}

    def _behind(self, background: Path) -> Planes:
        rgb = read_picture(background.read_bytes())
        return picture_background(rgb, width=self.index.width, height=self.index.height, colour=self.index.colour)

    def _decoded(self) -> Iterator[OwnFrame]:
        uprighter = Uprighter(self.index.picture)
        for number, frame in decode_range(self.source, self.index, 0, self.index.frames):
            planes = Planes.empty(self.index.width, self.index.height, self.index.colour)
            uprighter.write(uprighter.stored(frame, number=number), planes)
            yield OwnFrame(number, planes)

    async def _own_frames(self) -> AsyncIterator[OwnFrame]:
        for frame in self._decoded():
            yield frame


async def transform(
    source: Path, out: Path, *, portrait: Path | None, background: Path | None, runtime: Runtime, pool: Pool, work: Path
) -> int:
    """Transform a video by calling the domain functions one after the other.

    Returns:
        Frames that were encoded.
    """
    loop = Loop(
        source,
        index_video(source, MediaLimits()),
        runtime,
        pool,
        FolderStore(work),
        LocalModels(ServiceSettings().model_repository, "commercial"),
    )
    faces = await loop.cast(portrait) if portrait else None
    segment = work / "segment.mp4"
    frames = await loop.render(segment, faces, background)
    loop.complete(segment, out)
    return frames


def _patches(
    frame: OwnFrame, faces: tuple[Cast, dict[int, Texture], object] | None
) -> list[tuple[Placed, blending.Patch]]:
    if faces is None:
        return []
    cast, textures, source = faces
    mesh = engine("mesh")
    options = complete(mesh, {})
    placed = cast.faces(frame.planes, frame.index)
    crops = [
        FaceCrop(one.face.rgb, one.face.points, textures.get(one.face.track), one.face.weight, *one.face.pose)
        for one in placed
    ]
    answers = mesh.swap(crops, source, options)  # type: ignore[arg-type]
    return [
        (one, blending.Patch(rgb=patch.rgb, alpha=patch.alpha, affine=patch.affine))
        for one, patch in zip(placed, answers, strict=True)
        if patch is not None
    ]


def _batches(frames: Iterator[OwnFrame]) -> Iterator[list[OwnFrame]]:
    batch: list[OwnFrame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
