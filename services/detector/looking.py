"""Looking at one frame: faces found anew, and faces followed from landmarks that are already known.

Every answer depends on the frame's pixels alone, never on what else was asked: batches are joined and split freely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from services.common.arrays import Rgb
from services.common.planes import Planes, rgb_warp
from services.common.pool import Pool
from services.detector.blazeface import Candidate
from services.detector.finding import (
    BlazeFaces,
    CandidateFinder,
    Inference,
    candidates_in_tiles,
    picture_batcher,
)
from services.detector.landmarks import CROP_PX, Region, points_in_frame, region_of_candidate, region_of_sight
from services.detector.sharpness import sharpness_of
from services.detector.sights import Sight, meets
from services.detector.verifying import has_skin, is_inside, is_present, is_same

SAME_FACE_IOU = 0.5
"""Two meshes in one frame that overlap by this are one face found twice."""

SETTLED = 0.9
"""Presence from which another look at the same place finds nothing better."""

LANDMARKS = "facemesh"


class Looker:
    """The detector's eyes: models behind the inference door, crops made in the pool."""

    def __init__(
        self,
        inference: Inference,
        pool: Pool,
        *,
        most_faces: int,
        finder: CandidateFinder | None = None,
        batch: int = 16,
        in_flight: int = 2,
    ) -> None:
        """Args:
        inference: the inference door.
        pool: for crops.
        most_faces: faces kept in one frame, the largest first, where a call does not say.
        finder: where faces may be; BlazeFace through the same door if there is none.
        batch: most crops in one call of a model.
        in_flight: calls of each model at once.
        """
        self._pool = pool
        self._most_faces = most_faces
        self._finder = finder or BlazeFaces(inference, pool, batch=batch, in_flight=in_flight)
        self._landmarks = picture_batcher(inference, LANDMARKS, most=batch, in_flight=in_flight)

    async def find(self, planes: Planes, *, most: int = 0) -> list[Sight]:
        """The faces of a frame about which nothing is known, largest first; at most `most`, if it is given."""
        return await self._verified(planes, await self._finder.candidates(planes), most or self._most_faces)

    async def search(self, planes: Planes) -> list[Sight]:
        """The faces of a picture down to 4 % of its longer side, largest first: what `find` sees, and a closer look."""
        faces = await self.find(planes)
        # What the whole picture shows is judged by that: a tile sees half of a large face, or what a hand leaves of it.
        near = [
            candidate
            for candidate in await candidates_in_tiles(self._finder, planes)
            if not any(_is_within(candidate, face) for face in faces)
        ]
        return distinct([*faces, *await self._verified(planes, near, self._most_faces)])[: self._most_faces]

    async def _verified(self, planes: Planes, candidates: Sequence[Candidate], most: int) -> list[Sight]:
        """The candidates that are faces."""
        # Each candidate costs a look of the landmark net: a pattern full of them must not stop the service.
        candidates = candidates[: 2 * most]
        sights = await self._look(planes, [region_of_candidate(candidate) for candidate in candidates])
        # The detector's box is coarser than the landmarks, so these give the region for a second look. Where a hand
        # has pulled the box aside the second is not sure yet: from 0.00 over 0.56 to 1.00 was seen, and is worth one.
        sights = await self._look_again(planes, sights, below=np.inf)
        sights = await self._look_again(planes, sights, below=SETTLED)
        seen = [(sight, candidate.score) for sight, candidate in zip(sights, candidates, strict=True)]
        return await self._pool.run(_faces, planes, seen, most)

    async def follow(self, planes: Planes, known: Sequence[Sight]) -> list[Sight | None]:
        """Faces of a neighbouring frame looked for where they were; None for each that is lost."""
        regions = [region_of_sight(sight) for sight in known]
        sights = await self._look(planes, regions)
        return [
            sight if is_same(sight, before) and is_inside(sight, planes) else None
            for sight, before in zip(sights, known, strict=True)
        ]

    async def _look_again(self, planes: Planes, sights: Sequence[Sight], *, below: float) -> list[Sight]:
        """Each sight that scores less than `below`, looked at again where its landmarks are."""
        open_ = [place for place, sight in enumerate(sights) if sight.score < below]
        again = await self._look(planes, [region_of_sight(sights[place]) for place in open_])
        renewed = dict(zip(open_, again, strict=True))
        return [renewed.get(place, sight) for place, sight in enumerate(sights)]

    async def _look(self, planes: Planes, regions: Sequence[Region]) -> list[Sight]:
        """One sight for each region, believed or not; a region that no crop can be made of scores nothing."""
        usable = [region.is_usable for region in regions]
        asked = [region for region, is_usable in zip(regions, usable, strict=True) if is_usable]
        if not asked:
            return [NOTHING] * len(regions)
        crops = await self._pool.run(_crops, planes, asked)
        answers = await asyncio.gather(*(self._landmarks.one(crop) for crop, _ in crops))
        seen = iter(
            Sight(points_in_frame(answer["points"], region), float(answer["presence"]), sharpness)
            for answer, region, (_, sharpness) in zip(answers, asked, crops, strict=True)
        )
        return [next(seen) if is_usable else NOTHING for is_usable in usable]


NOTHING = Sight(np.zeros((478, 3), np.float32), 0.0, 0.0)


def distinct(sights: Sequence[Sight]) -> list[Sight]:
    """Each face once, largest first; of two that overlap the one that the net believes more stays."""
    kept: list[Sight] = []
    for sight in sorted(sights, key=lambda s: (-s.score, *s.box.tolist())):
        if not meets(sight.box, [other.box for other in kept], at_least=SAME_FACE_IOU):
            kept.append(sight)
    return sorted(kept, key=lambda s: (-_area(s), *s.box.tolist()))


def _faces(planes: Planes, seen: Sequence[tuple[Sight, float]], most: int) -> list[Sight]:
    """Those that are faces, each once, largest first."""
    faces = [
        sight
        for sight, detected in seen
        if is_present(sight) and is_inside(sight, planes) and has_skin(planes, sight, detected)
    ]
    return distinct(faces)[:most]


def _is_within(candidate: Candidate, face: Sight) -> bool:
    """Whether the middle of a candidate lies on a face."""
    x0, y0, x1, y1 = face.box.tolist()
    x, y = candidate.box.reshape(2, 2).mean(axis=0).tolist()
    return bool(x0 <= x <= x1 and y0 <= y <= y1)


def _area(sight: Sight) -> float:
    x0, y0, x1, y1 = sight.box.tolist()
    return float((x1 - x0) * (y1 - y0))


def _crops(planes: Planes, regions: Sequence[Region]) -> list[tuple[Rgb, float]]:
    crops = [rgb_warp(planes, region.affine, width=CROP_PX, height=CROP_PX) for region in regions]
    return [(crop, sharpness_of(crop)) for crop in crops]
