"""One warm mesh for the tests of a module, and the films and faces that they share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.clips import make_clip
from tests.e2e.mesh_driver import Driver, running_driver
from tests.e2e.pictures import seen_by_camera, write_portrait

SHARED = Path(os.environ.get("MASQUERADE_SHARED") or Path(__file__).resolve().parents[3] / "shared")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    """The mesh as it is by default, with two workers."""
    async with running_driver(tmp_path_factory.mktemp("mesh")) as driver:
        yield driver


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public-domain portrait in scikit-image, three times its size: a face wide enough to be put on another."""
    return write_portrait(tmp_path_factory.mktemp("portrait") / "portrait.png")


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 frames of a face in moving view, 320x240."""
    return make_clip(
        tmp_path_factory.mktemp("talker") / "talker.mp4", frames=64, gop=16, bf=2, audio="aac", draw=seen_by_camera
    )


@pytest.fixture(scope="session")
def footage() -> Callable[[str], Path]:
    """A clip of the shared footage by its name; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / "footage" / name
        if not path.is_file():
            pytest.skip(f"{path} is absent")
        return path

    return find
