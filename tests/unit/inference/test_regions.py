"""Shared memory for Triton: fully there, one request at a time, nothing left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from services.common.errors import NoSpace
from services.common.inference import regions as module
from services.common.inference.models import read_model
from services.common.inference.regions import Region, Regions, can_be_shared
from tests.support.starter_models import REPOSITORY

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def model():
    return read_model(REPOSITORY, "facemesh")


def test_every_tensor_of_a_full_batch_has_a_place_of_its_own(model):
    region = Region(model)
    try:
        assert can_be_shared(model)
        path = SHARED_MEMORY / region.name
        assert path.stat().st_blocks * 512 >= region.nbytes, "memory that is promised must be there"
        images = np.full((16, 192, 192, 3), 7, np.uint8)
        region.write({"image": images})
        points, presence = model.outputs
        assert not region.read(points, 16).any()
        assert not region.read(presence, 16).any()
    finally:
        region.remove()
    assert not path.exists()


async def test_a_region_whose_request_was_given_up_rests_before_it_serves_again(model):
    regions = Regions(model, most=1, rest_s=0.05)
    region = regions.take()
    assert region is not None
    assert regions.take() is None
    regions.rest(region)
    assert regions.take() is None
    await asyncio.sleep(0.2)
    assert regions.take() is region
    regions.remove()


async def test_a_region_that_comes_back_after_the_end_is_harmless(model):
    regions = Regions(model, most=1, rest_s=0.02)
    region = regions.take()
    assert region is not None
    regions.rest(region)
    regions.remove()
    await asyncio.sleep(0.1)
    assert not (SHARED_MEMORY / region.name).exists()
    assert regions.take() is not region
    regions.remove()


def test_full_shared_memory_is_an_error_and_leaves_nothing(model, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(NoSpace):
        Region(model)
    assert list(tmp_path.iterdir()) == []
