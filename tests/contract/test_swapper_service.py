"""The swapper over its contract: faces in, patches out, by either lane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import grpc.aio
import numpy as np
import pytest

from masquerade.identity import Identity, write_identity
from masquerade.timeline import TrackTextures, write_textures
from masquerade.v1 import lane_pb2_grpc
from masquerade.v1 import swapper_pb2 as pb
from masquerade.v1.swapper_pb2_grpc import SwapperServiceStub
from services.common.channels import build_channel
from services.common.deps import Registration, ServiceDeps
from services.common.errors import (
    AnswerMismatch,
    FrameBatchInvalid,
    IdentityNotFound,
    InvalidSpec,
    MasqueradeError,
    ObjectCorrupt,
    ObjectMissing,
    UnknownEngine,
)
from services.common.lanes.handshake import Lanes, LaneServicer
from services.common.lanes.payload import place_pictures
from services.common.lanes.pictures import Picture
from services.common.lanes.ring import Ring
from services.common.pool import Pool
from services.common.server import build_server
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.swapper import app
from services.swapper.engines import FaceCrop, Options, Patch, Source
from services.swapper.registry import register
from services.swapper.settings import SwapperSettings
from tests.support.faces import face_points, portrait, require_topology, scenery

IDENTITY = "local/identities/idn_x/identity"
TEXTURES = "local/jobs/job_x/textures"


class Dummy:
    """Red where the face's track is odd, nothing where it is even."""

    name = "dummy"
    description = "For tests."
    options: Options = MappingProxyType({"shade": "255"})
    choices: Mapping[str, Sequence[str]] = MappingProxyType({})
    models: Sequence[str] = ()
    nbytes = 1

    def __init__(self) -> None:
        self.prepared = 0
        self.textures: list[bool] = []
        self.forgets = 0

    def prepare(self, identity: Identity, options: Options) -> Source:
        self.prepared += 1
        return self

    def swap(self, faces: Sequence[FaceCrop], source: Source, options: Options) -> list[Patch | None]:
        self.textures += [face.texture is not None for face in faces]
        patches = [self._patch(face, int(options["shade"])) for face in faces]
        return patches[self.forgets :]

    def _patch(self, face: FaceCrop, shade: int) -> Patch | None:
        if face.weight < 0.5:
            return None
        rgb = np.zeros_like(face.rgb)
        rgb[..., 0] = shade
        return Patch(rgb=rgb, alpha=face.rgb[..., 1].copy())


@dataclass
class House:
    """A swapper on a server, and what it stands on."""

    stub: SwapperServiceStub
    channel: grpc.aio.Channel
    store: FolderStore
    dummy: Dummy


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store, pool, dummy = FolderStore(tmp_path / "objects"), Pool(2), Dummy()
    await store.put_bytes(IDENTITY, write_identity(portrait()))
    take_away = register(dummy)
    deps = ServiceDeps(store=store, pool=pool, channels={}, scratch=tmp_path)
    registrations = await app.build(deps, SwapperSettings())
    lanes = Registration(
        service="masquerade.v1.LaneService",
        add=lambda server: lane_pb2_grpc.add_LaneServiceServicer_to_server(LaneServicer(), server),
    )
    # Without the swapper's `warm`: only the engine mesh needs what `models pull` wrote.
    cold = [Registration(one.service, one.add) for one in registrations]
    server = build_server([*cold, lanes], ServiceSettings(listen="127.0.0.1:0"))
    await server.start()
    channel = build_channel(server.target)
    yield House(SwapperServiceStub(channel), channel, store, dummy)
    await channel.close()
    await server.stop(drain_s=1)
    await pool.close()
    take_away()


def asked(count: int = 3, *, crops: Sequence[Picture] | None = None, **fields: object) -> pb.SwapRequest:
    """A request for some faces of different sizes; the second has hardly any weight."""
    pictures = list(crops or (scenery(60 + 10 * n, 50, seed=n) for n in range(count)))
    faces = [
        pb.SwapFace(index=7, track=n, landmarks=face_points(40).tobytes(), weight=0.1 if n == 1 else 1.0)
        for n in range(count)
    ]
    values: dict[str, object] = {"identity_key": IDENTITY, "engine": "dummy", "faces": faces}
    return pb.SwapRequest(**{**values, "crops": place_pictures(pictures), **fields})


def pictures_of(response: pb.SwapResponse) -> list[np.ndarray]:
    found = []
    for image in response.pixels.images:
        sides = (image.height, image.width, 3) if image.format == 2 else (image.height, image.width)
        count = int(np.prod(sides))
        found.append(np.frombuffer(response.pixels.payload.inline, np.uint8, count, image.offset).reshape(sides))
    return found


async def test_patches_come_in_the_order_asked_colours_first_and_then_alphas(house: House) -> None:
    response = await house.stub.Swap(asked())
    assert [(patch.index, patch.track, patch.is_empty) for patch in response.patches] == [
        (7, 0, False),
        (7, 1, True),
        (7, 2, False),
    ]
    colours, alphas = pictures_of(response)[:3], pictures_of(response)[3:]
    assert [colour.shape for colour in colours] == [(50, 60, 3), (0, 0, 3), (50, 80, 3)]
    assert [alpha.shape for alpha in alphas] == [(50, 60), (0, 0), (50, 80)]
    assert (colours[2] == [255, 0, 0]).all()
    assert np.array_equal(alphas[2], scenery(80, 50, seed=2)[..., 1])
    assert list(response.patches[2].affine) == [1, 0, 0, 0, 1, 0]


async def test_shared_memory_gives_the_same_as_the_wire(house: House) -> None:
    inline = pictures_of(await house.stub.Swap(asked()))
    ring = Ring(8 << 20)
    lane = await Lanes(ring).to(house.channel)
    assert lane.ring is ring
    crops = [scenery(60 + 10 * n, 50, seed=n) for n in range(3)]
    async with lane.offer_pictures(crops) as sent, lane.reserve(1 << 20) as answer:
        request = asked()
        request.crops.CopyFrom(sent)
        request.answer_slot.CopyFrom(answer.lease)
        response = await house.stub.Swap(request)
        assert response.pixels.payload.HasField("slot")
        shared = [np.array(picture) for picture in answer.pictures(response.pixels)]
    assert all(np.array_equal(one, other) for one, other in zip(inline, shared, strict=True))
    assert ring.used_bytes == 0
    ring.close()


async def test_an_identity_is_prepared_once_for_each_set_of_options(house: House) -> None:
    for _ in range(3):
        await house.stub.Swap(asked())
    assert house.dummy.prepared == 1
    await house.stub.Swap(asked(options={"shade": "9"}))
    assert house.dummy.prepared == 2


async def test_an_erased_identity_is_not_used_from_memory(house: House) -> None:
    await house.stub.Swap(asked())
    await house.store.delete(IDENTITY)
    with pytest.raises(IdentityNotFound):
        await house.stub.Swap(asked())


async def test_each_face_is_judged_by_the_texture_of_its_own_track(house: House) -> None:
    textures = TrackTextures(
        track=np.array([0, 2], np.int32),
        mean=np.zeros((2, 64, 64, 3), np.float32),
        var=np.ones((2, 64, 64, 3), np.float32),
    )
    await house.store.put_bytes(TEXTURES, write_textures(textures))
    await house.stub.Swap(asked(textures_key=TEXTURES))
    assert house.dummy.textures == [True, False, True]


async def test_no_faces_are_no_patches(house: House) -> None:
    response = await house.stub.Swap(asked(0))
    assert not response.patches


async def test_an_engine_that_forgets_a_face_is_caught(house: House) -> None:
    house.dummy.forgets = 1
    with pytest.raises(AnswerMismatch):
        await house.stub.Swap(asked())


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"engine": "mosh"}, UnknownEngine),
        ({"identity_key": ""}, InvalidSpec),
        ({"identity_key": "../etc/passwd"}, InvalidSpec),
        ({"identity_key": "local/identities/idn_y/identity"}, IdentityNotFound),
        ({"options": {"colour": "pink"}}, InvalidSpec),
        ({"textures_key": "local/nothing"}, ObjectMissing),
        ({"textures_key": IDENTITY}, ObjectCorrupt),
        ({"faces": []}, FrameBatchInvalid),
        ({"faces": [pb.SwapFace(landmarks=bytes(8))] * 3}, FrameBatchInvalid),
        ({"faces": [pb.SwapFace(landmarks=np.full(1434, np.nan, "<f4").tobytes())] * 3}, FrameBatchInvalid),
        ({"faces": [pb.SwapFace(landmarks=face_points(9).tobytes(), weight=2)] * 3}, FrameBatchInvalid),
        ({"crops": [np.zeros((9, 9), np.uint8)] * 3}, FrameBatchInvalid),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    house: House, fields: dict[str, object], error: type[MasqueradeError]
) -> None:
    with pytest.raises(error):
        await house.stub.Swap(asked(**fields))
    # And the service lives on.
    assert len((await house.stub.Swap(asked())).patches) == 3


async def test_the_engines_are_listed_with_their_options(house: House) -> None:
    listed = (await house.stub.ListEngines(pb.ListEnginesRequest())).engines
    assert [one.name for one in listed] == ["dummy", "mesh"]
    assert dict(listed[1].options) == {"colour": "auto", "occlusion": "on"}


async def test_the_default_engine_puts_the_drawn_face_on(house: House) -> None:
    require_topology()
    crop = scenery(150, 180)
    face = pb.SwapFace(index=3, track=1, landmarks=face_points(120, at=(15.0, 15.0)).tobytes(), weight=1.0)
    response = await house.stub.Swap(asked(1, crops=[crop], engine="", faces=[face]))
    colour, alpha = pictures_of(response)
    assert alpha.max() == 255
    # The portrait is blue, the scenery is not.
    shown = colour[alpha == 255].astype(float).mean(axis=0)
    assert shown[2] > shown[0] + 60
