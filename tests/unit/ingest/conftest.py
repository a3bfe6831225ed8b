"""Clips made once, and what they are compared with: one plain decode from the first packet to the last."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import I1_CLIPS


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`clip("rotated_90")`: the file of that name in the catalogue."""
    folder = tmp_path_factory.mktemp("clips")
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = I1_CLIPS[name](folder)
        return made[name]

    return make


@pytest.fixture
def footage() -> list[Path]:
    """Real clips, where the shared folder is present."""
    shared = Path(os.environ.get("MASQUERADE_SHARED", Path(__file__).resolve().parents[4] / "shared"))
    clips = sorted(p for p in (shared / "footage").glob("*.*") if p.suffix != ".md")
    if not clips:
        pytest.skip(f"no footage in {shared / 'footage'} (set MASQUERADE_SHARED)")
    return clips


def straight(path: Path) -> list[tuple[int | None, av.VideoFrame]]:
    """PTS and frame of every displayed frame, by nothing but PyAV."""
    with av.open(str(path)) as container:
        return [(frame.pts, frame) for frame in container.decode(video=0)]


def upright_420(frame: av.VideoFrame) -> list[NDArray[np.uint8]] | None:
    """Padded and turned planes of an 8-bit 4:2:0 frame, by another way than ours; None for other formats."""
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        return None
    planes = []
    for number, plane in enumerate(frame.planes):
        part = 1 if number == 0 else 2
        rows, columns = -(-frame.height // part), -(-frame.width // part)
        samples = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
        even = (frame.height + frame.height % 2) // part - rows, (frame.width + frame.width % 2) // part - columns
        padded = np.pad(samples, ((0, even[0]), (0, even[1])), "edge")
        planes.append(np.rot90(padded, frame.rotation // 90))
    return planes
