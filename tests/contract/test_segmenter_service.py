"""The segmenter over its contract: frames in, mattes out, by either lane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from masquerade.v1 import lane_pb2_grpc
from masquerade.v1 import segmenter_pb2 as pb
from masquerade.v1.segmenter_pb2_grpc import SegmenterServiceStub
from services.common.arrays import Tensor
from services.common.channels import build_channel
from services.common.deps import Registration, ServiceDeps
from services.common.errors import FrameBatchInvalid, MasqueradeError, RuntimeUnavailable, UnknownModel
from services.common.inference.opening import open_runtime
from services.common.lanes.handshake import Lanes, LaneServicer
from services.common.lanes.payload import place_frames
from services.common.lanes.pictures import Frames
from services.common.lanes.ring import Ring
from services.common.pool import Pool
from services.common.server import build_server
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.segmenter import app
from services.segmenter.settings import SegmenterSettings
from tests.support.starter_models import REPOSITORY, goldens, require_weights


class RedIsForeground:
    """A runtime whose matte is the red channel."""

    name = "drawn"

    async def infer(self, model: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"alpha": inputs["image"][..., 0].astype(np.float32) / np.float32(255)}

    async def ready(self, models: Iterable[str]) -> None:
        return None

    def digests(self) -> dict[str, str]:
        return {}

    async def close(self) -> None:
        return None


@dataclass
class House:
    """A segmenter on a server."""

    stub: SegmenterServiceStub
    channel: grpc.aio.Channel


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    pool = Pool(1)
    deps = ServiceDeps(store=FolderStore(tmp_path), pool=pool, channels={}, scratch=tmp_path, runtime=RedIsForeground())
    registrations = await app.build(deps, SegmenterSettings())
    lanes = Registration(
        service="masquerade.v1.LaneService",
        add=lambda server: lane_pb2_grpc.add_LaneServiceServicer_to_server(LaneServicer(), server),
    )
    server = build_server([*registrations, lanes], ServiceSettings(listen="127.0.0.1:0"))
    await server.start()
    await server.warmed()
    channel = build_channel(server.target)
    yield House(SegmenterServiceStub(channel), channel)
    await channel.close()
    await server.stop(drain_s=1)
    await pool.close()


def frames(count: int = 4, width: int = 256, height: int = 144) -> Frames:
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return Frames.of(pixels, first_index=20, pts=[1000 + 40 * n for n in range(count)])


async def test_mattes_bear_the_names_of_their_frames(house: House) -> None:
    asked = frames()
    mattes = (await house.stub.Segment(pb.SegmentRequest(frames=place_frames(asked)))).mattes
    assert (mattes.first_index, tuple(mattes.pts)) == (20, asked.pts)
    assert (mattes.width, mattes.height) == (256, 144)
    seen = np.frombuffer(mattes.payload.inline, np.uint8).reshape(4, 144, 256)
    assert np.array_equal(seen, asked.pixels[..., 0])


async def test_shared_memory_gives_the_same_as_the_wire(house: House) -> None:
    asked = frames()
    ring = Ring(8 << 20)
    lane = await Lanes(ring).to(house.channel)
    async with lane.offer_frames(asked) as batch, lane.reserve(asked.nbytes // 3) as answer:
        response = await house.stub.Segment(pb.SegmentRequest(frames=batch, answer_slot=answer.lease))
        assert response.mattes.payload.HasField("slot")
        assert np.array_equal(answer.frames(response.mattes).pixels, asked.pixels[..., 0])
    assert ring.used_bytes == 0
    ring.close()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.SegmentRequest(), FrameBatchInvalid),
        (pb.SegmentRequest(frames=place_frames(frames(1, 128, 128))), FrameBatchInvalid),
        (pb.SegmentRequest(frames=place_frames(frames(1)), model="selfish"), UnknownModel),
        (
            pb.SegmentRequest(frames=place_frames(Frames.of(frames(1).pixels[..., 0], first_index=0, pts=[0]))),
            FrameBatchInvalid,
        ),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    house: House, request_: pb.SegmentRequest, error: type[MasqueradeError]
) -> None:
    with pytest.raises(error):
        await house.stub.Segment(request_)
    assert (await house.stub.Segment(pb.SegmentRequest(frames=place_frames(frames(1))))).mattes.pts == [1000]


async def test_more_than_64_frames_are_refused(house: House) -> None:
    # So small that they fit into a message: the count is looked at before the size.
    with pytest.raises(FrameBatchInvalid, match="64"):
        await house.stub.Segment(pb.SegmentRequest(frames=place_frames(frames(65, 16, 16))))


async def test_the_models_are_listed_with_their_size(house: House) -> None:
    listed = (await house.stub.ListModels(pb.ListModelsRequest())).models
    assert [(one.name, one.width, one.height) for one in listed] == [
        ("selfie", 256, 144),
        ("isnet_general_use", 1024, 1024),
    ]


async def test_a_segmenter_without_a_runtime_is_not_wired(tmp_path: Path) -> None:
    pool = Pool(1)
    deps = ServiceDeps(store=FolderStore(tmp_path), pool=pool, channels={}, scratch=tmp_path)
    with pytest.raises(RuntimeUnavailable):
        await app.build(deps, SegmenterSettings())
    await pool.close()


async def test_the_real_model_answers_as_its_own_runtime_did(tmp_path: Path) -> None:
    require_weights()
    pool = Pool(1)
    runtime = open_runtime(SegmenterSettings(model_repository=REPOSITORY), pool=pool)
    deps = ServiceDeps(store=FolderStore(tmp_path), pool=pool, channels={}, scratch=tmp_path, runtime=runtime)
    server = build_server(await app.build(deps, SegmenterSettings()), ServiceSettings(listen="127.0.0.1:0"))
    await server.start()
    await server.warmed()
    channel = build_channel(server.target)
    pixels = goldens()["inputs_144x256"].astype(np.uint8)
    asked = Frames.of(pixels, first_index=0, pts=range(len(pixels)))
    mattes = (await SegmenterServiceStub(channel).Segment(pb.SegmentRequest(frames=place_frames(asked)))).mattes
    seen = np.frombuffer(mattes.payload.inline, np.uint8).reshape(pixels.shape[:3])
    wanted = goldens()["selfie_segmentation_landscape.0"].reshape(seen.shape) * 255
    assert np.abs(seen - wanted).max() < 0.6
    await channel.close()
    await server.stop(drain_s=1)
    await runtime.close()
    await pool.close()
