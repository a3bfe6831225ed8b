"""Identities with the real detector behind their door: what it says of portraits arrives where the caller looks."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masquerade import facemesh
from masquerade.identity import read_identity
from masquerade.v1 import identity_pb2 as pb
from masquerade.v1 import job_pb2
from services.common.channels import build_channel
from services.common.deps import ServiceDeps
from services.common.errors import InvalidSpec, NoFaceInPortrait
from services.common.pool import Pool
from services.common.server import build_server
from services.common.store.folder import FolderStore
from services.detector import app
from services.detector.settings import DetectorSettings
from services.orchestrator.consents import resolve
from tests.support.faces import face_points
from tests.support.orange_faces import Face, OrangeRuntime, coarse_grid, picture
from tests.support.people_house import PeopleHouse, people_house


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PeopleHouse]:
    # The mesh's topology comes with the weights, which this test does without.
    grid = coarse_grid()
    monkeypatch.setattr(facemesh, "texel_grid", lambda size: grid)
    pool, store = Pool(2), FolderStore(tmp_path / "objects")
    nobody = build_channel("127.0.0.1:1", peer="ingest")
    deps = ServiceDeps(
        store=store, pool=pool, channels={"ingest": nobody}, scratch=tmp_path / "scratch", runtime=OrangeRuntime()
    )
    chosen = DetectorSettings(listen="127.0.0.1:0", data=tmp_path, ring_bytes="32MiB")
    server = build_server(await app.build(deps, chosen), chosen)
    await server.start()
    await server.warmed()
    channel = build_channel(server.target, peer="detector")
    async with people_house(tmp_path, detector=channel) as opened:
        yield opened
    await channel.close()
    await server.stop(drain_s=1)
    await nobody.close()
    await pool.close()


def png(*faces: Face) -> bytes:
    file = io.BytesIO()
    rgb = np.asarray(picture(list(faces), height=600, width=800), np.uint8)
    Image.fromarray(rgb).save(file, "PNG")
    return file.getvalue()


def wanted(*assets: str, method: int = job_pb2.CONSENT_METHOD_SELF, landmarks: str = "") -> pb.CreateIdentityRequest:
    request = pb.CreateIdentityRequest(name="Anna", asset_ids=assets, request_id="r")
    request.consent.method = method  # type: ignore[assignment]
    if landmarks:
        request.landmarks_asset_id = landmarks
    return request


async def test_good_portraits_are_enrolled_with_their_quality(house: PeopleHouse) -> None:
    assets = [await house.asset(png(Face(400, 300, width)), name=f"{width}.png") for width in (260, 150)]
    made = (await house.ask("CreateIdentity", wanted(*assets))).identity
    assert [each.name for each in made.quality] == ["260.png", "150.png"]
    assert made.quality[0].face_width_px == pytest.approx(260, abs=6)
    assert any("150 px" in warning or "px wide" in warning for warning in made.quality[1].warnings)
    found = await resolve(house.records, "anna", made.id)
    assert len(read_identity(await house.store.get_bytes(found.key)).pictures) == 2


async def test_bad_portraits_are_all_named_by_their_place_and_name(house: PeopleHouse) -> None:
    contents = {"fine.png": png(Face(400, 300, 260)), "empty.png": png(), "text.png": b"GIF89a and so on"}
    assets = [await house.asset(content, name=name) for name, content in contents.items()]
    with pytest.raises(NoFaceInPortrait) as caught:
        await house.ask("CreateIdentity", wanted(*assets))
    assert [each.field for each in caught.value.violations] == ["asset_ids[1]", "asset_ids[2]"]
    assert "empty.png" in caught.value.violations[0].problem
    assert "text.png" in caught.value.violations[1].problem
    assert "asset_ids" not in caught.value.fields["portrait"]
    assert await house.store.list("anna/identities") == []


async def test_a_drawn_portrait_needs_landmarks_inside_it(house: PeopleHouse) -> None:
    asset = await house.asset(png())
    good = face_points(200, at=(200, 200)).astype("<f4")
    synthetic = job_pb2.CONSENT_METHOD_SYNTHETIC
    far = await house.asset((good + 1e6).tobytes())
    with pytest.raises(InvalidSpec) as caught:
        await house.ask("CreateIdentity", wanted(asset, method=synthetic, landmarks=far))
    assert [each.field for each in caught.value.violations] == ["landmarks_asset_id"]
    landmarks = await house.asset(good.tobytes())
    assert (await house.ask("CreateIdentity", wanted(asset, method=synthetic, landmarks=landmarks))).identity.drawn
