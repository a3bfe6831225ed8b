"""A face is withdrawn while a job puts it on: no artifact, and not a byte of it in databases, folder and logs."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
import sqlalchemy as sa

from masquerade.v1 import identity_pb2
from masquerade.v1 import job_pb2 as pb
from services.common.audit.verify import verify
from services.common.records.tables import audit, jobs
from services.common.store.folder import FolderStore
from services.orchestrator.engine.port import JsonObject
from tests.support.jobs_house import jobs_house
from tests.support.people_house import found_in, portrait
from tests.support.toy_peers import StoringPeers

PICTURE = "cAnArY-0f-a-PORTRAIT"
TEXTURE = b"\x93cAnArY\x00TEXTURE\x94"
CONSENT_REVOKED = 68
WHO = (("who", "anna"),)


class FacePeers(StoringPeers):
    """Whatever they write shows the face."""

    async def ask(self, rpc: str, request: JsonObject) -> JsonObject:
        key = str(request.get("output_key") or "")
        if key and rpc not in self._held and rpc != "detector.Link":
            # Kept as it is when the toy writes the same key.
            await self.store.put_bytes(key, TEXTURE + key.encode())
        if rpc == "detector.Link" and rpc not in self._held:
            await self.store.put_bytes(f"{key}-parts/textures", TEXTURE)
        return await super().ask(rpc, request)


@pytest.mark.parametrize("method", ["RevokeConsent", "DeleteIdentity"])
@pytest.mark.parametrize(
    "stage",
    [
        "detector.AnalyseSegment",
        "detector.Link",
        "compositor.RenderSegment",
        "compositor.Verify",
        "compositor.Finalise",
    ],
)
async def test_nothing_of_a_withdrawn_face_is_left(
    stage: str, method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    peers = FacePeers(FolderStore(tmp_path / "objects"))
    async with jobs_house(tmp_path, peers=peers) as house:
        asked = identity_pb2.CreateIdentityRequest(name="Anna", asset_ids=[await house.asset(portrait(PICTURE))])
        asked.consent.method = pb.CONSENT_METHOD_SELF
        face = (await house.people.CreateIdentity(asked, metadata=WHO, timeout=20)).identity.id
        spec = pb.JobSpec(asset_id=await house.asset(b"a video without faces"))
        spec.identities.add(name="face1", identity_id=face)
        reached = peers.hold(stage)
        job = (await house.create(spec, "r")).id
        await asyncio.wait_for(reached.wait(), 20)
        assert found_in(tmp_path, PICTURE.encode())
        assert found_in(tmp_path, TEXTURE)

        request = identity_pb2.RevokeConsentRequest if method == "RevokeConsent" else identity_pb2.DeleteIdentityRequest
        await getattr(house.people, method)(request(id=face), metadata=WHO, timeout=20)

        failed = await house.get(job)
        assert (failed.state, failed.failure.reason) == (pb.JOB_STATE_FAILED, CONSENT_REVOKED)
        assert not failed.artifact.key
        peers.let_go(stage)
        assert await house.objects(job) == []
        for word in (PICTURE.encode(), TEXTURE):
            assert found_in(tmp_path, word) == []
            assert word.decode("latin-1") not in caplog.text
        # The databases are there and know of the job.
        assert found_in(tmp_path, job.encode())
        assert (await verify(house.records)).broken is None
        lines = await house.records.read(lambda c: c.execute(sa.select(audit).order_by(audit.c.sequence)).all())
        told = [row.action for row in lines]
        assert "consent.revoked" in told
        assert json.loads(lines[told.index("consent.revoked")].details)["subject"] == face
        (row,) = await house.records.read(lambda c: c.execute(sa.select(jobs)).all())
        assert row.result is None
