"""Invariant I3: the planes before encoding do not depend on how the work was divided."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.mesh_driver import LaneName, Result, colour, running_driver


@dataclass(frozen=True, slots=True)
class Division:
    """How one video was divided among whom."""

    segments: int
    batch_frames: int
    lane: LaneName
    workers: int


CHOICES = ((1, 3, 7), (1, 8), ("ring", "inline"), (1, 2))
DIVISIONS = (
    Division(1, 8, "ring", 2),
    Division(1, 1, "inline", 1),
    Division(3, 1, "ring", 1),
    Division(3, 8, "inline", 2),
    Division(7, 1, "ring", 2),
    Division(7, 8, "inline", 1),
)


def test_every_two_choices_meet_in_some_division() -> None:
    for (one, ones), (other, others) in combinations(enumerate(CHOICES), 2):
        met = {(astuple(division)[one], astuple(division)[other]) for division in DIVISIONS}
        assert met == set(product(ones, others))


@pytest.mark.slow
async def test_planes_do_not_depend_on_segments_batches_lanes_or_workers(
    talking: Path, portrait: Path, tmp_path: Path
) -> None:
    results: list[Result] = []
    for division in DIVISIONS:
        async with running_driver(
            tmp_path, workers=division.workers, batch_frames=division.batch_frames, lane=division.lane
        ) as mesh:
            result = await mesh.transform(
                talking, faces=[portrait], background=colour(0x00FF00), segments=division.segments
            )
        assert len(result.source.segments) == division.segments
        assert result.faces == len(result.digests) == 64
        results.append(result)
    reference = results[0]
    assert len(set(reference.digests)) == 64
    for division, result in zip(DIVISIONS, results, strict=True):
        other = [frame for frame in range(64) if result.digests[frame] != reference.digests[frame]]
        assert other == [], f"{division} renders these frames differently"
        assert result.seen is not None
        assert reference.seen is not None
        for name, column in result.seen.rows().items():
            assert np.array_equal(column, reference.seen.rows()[name]), f"{division}: {name} of the Timeline"
