"""The public door with the six services behind it: what it describes, what it refuses, what is rendered again."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import pytest_asyncio

from masquerade.v1 import compositor_pb2, identity_pb2
from masquerade.v1 import job_pb2 as pb
from masquerade.v1.identity_pb2_grpc import IdentityServiceStub
from masquerade.v1.job_pb2_grpc import JobServiceStub
from services.common.channels import build_channel
from services.common.errors import InvalidSpec
from services.common.inference.models import read_models
from services.common.records.tables import assets
from services.common.settings import ServiceSettings
from services.compositor.backgrounds import DEFAULT_BLUR
from services.compositor.encoding import PRESETS, EncodeSettings
from services.detector.conducting import Detection
from services.detector.detectors import DETECTORS, PROFILE_DETECTOR
from services.segmenter.models import matting_models, profile_model
from services.standalone.assets import Assets
from services.standalone.data_folder import DataFolder
from services.standalone.mesh import Mesh, running_mesh
from services.swapper.registry import engines
from tests.clips import make_clip
from tests.e2e.mesh_driver import require_weights
from tests.e2e.pictures import seen_by_camera

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDED = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)
MOST_FACES = 3
JOB_S = 120


@dataclass
class Door:
    """The public door, and the rooms behind it."""

    mesh: Mesh
    folder: DataFolder
    jobs: Any
    people: Any

    async def asset(self, path: Path) -> str:
        """An asset's id, as if it had been uploaded."""
        key = await Assets(self.mesh.store, self.folder, tenant="local").put_file(path)
        stored = await self.mesh.store.stat(key)
        assert stored is not None
        row = {
            "id": f"asset_{key.rpartition('/')[2]}",
            "tenant": "local",
            "key": key,
            "name": path.name,
            "size_bytes": stored.bytes,
            "digest": stored.digest,
            "number": secrets.randbits(40),
            "created_ms": 1,
            "used_ms": 1 << 42,
        }
        await self.mesh.records.write(
            lambda connection: connection.execute(assets.insert().prefix_with("OR IGNORE").values(**row))
        )
        return str(row["id"])

    async def face(self, portrait: Path) -> str:
        """An enrolled identity."""
        request = identity_pb2.CreateIdentityRequest(name="face", asset_ids=[await self.asset(portrait)])
        request.consent.method = pb.CONSENT_METHOD_SELF
        return str((await self.people.CreateIdentity(request, timeout=60)).identity.id)

    async def ended(self, job: str) -> pb.Job:
        """The job once it has ended."""
        async with asyncio.timeout(JOB_S):
            while True:
                found = cast(pb.Job, (await self.jobs.GetJob(pb.GetJobRequest(id=job), timeout=20)).job)
                if found.state in ENDED:
                    assert found.state == pb.JOB_STATE_SUCCEEDED, found.failure
                    return found
                await asyncio.sleep(0.1)

    async def create(self, spec: pb.JobSpec) -> str:
        """A new job's id."""
        request = pb.CreateJobRequest(request_id=secrets.token_hex(8), spec=spec)
        return str((await self.jobs.CreateJob(request, timeout=60)).job.id)

    async def report(self, job: pb.Job) -> dict[str, Any]:
        """What a job says of itself."""
        return cast(dict[str, Any], json.loads(await self.mesh.store.get_bytes(job.report.key)))

    async def refused(self, spec: pb.JobSpec) -> dict[str, str]:
        """Everything that is wrong with a spec."""
        with pytest.raises(InvalidSpec) as caught:
            await self.create(spec)
        return {each.field: each.problem for each in caught.value.violations}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """One mesh for all tests, with a setting that is not the default."""
    require_weights()
    home = tmp_path_factory.mktemp("public")
    flags = {"data": str(home), "drain_s": 2.0, "plane_digests": True}
    environment = {"MASQUERADE_DETECTOR__MAX_FACES": str(MOST_FACES)}
    with mock.patch.dict("os.environ", environment), DataFolder(home) as folder:
        async with running_mesh(folder, ServiceSettings.load(flags), flags=flags) as mesh:
            await mesh.warmed()
            async with build_channel(mesh.public, peer="orchestrator", is_retried=False) as channel:
                yield Door(mesh, folder, JobServiceStub(channel), IdentityServiceStub(channel))


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 frames of a face in moving view, 320x240."""
    return make_clip(tmp_path_factory.mktemp("brief") / "brief.mp4", frames=32, gop=16, bf=2, draw=seen_by_camera)


async def test_what_is_described_is_what_the_services_have(door: Door) -> None:
    described = await door.jobs.Describe(pb.DescribeRequest(), timeout=20)
    stages = {stage.stage: {engine.name: engine for engine in stage.engines} for stage in described.stages}
    assert list(stages) == ["detector", "swapper", "segmenter", "compositor", "background"]
    defaults = {name: [e.name for e in found.values() if e.is_default] for name, found in stages.items()}
    assert defaults == {
        "detector": [PROFILE_DETECTOR],
        "swapper": ["mesh"],
        "segmenter": [profile_model("starter")],
        "compositor": ["h264"],
        "background": ["keep"],
    }
    repository = ServiceSettings.load({"data": str(door.folder.path)}).model_repository
    cards = read_models(repository)
    assert set(stages["detector"]) == set(DETECTORS)
    for name, known in DETECTORS.items():
        shown = stages["detector"][name]
        assert list(shown.models) == [*known.models, *known.own_models]
        assert list(shown.licences) == [cards[model].licence.name for model in shown.models]
        assert list(shown.forbidden) == [model for model in shown.models if not cards[model].licence.commercial_use]
    assert set(stages["swapper"]) == {engine.name for engine in engines()}
    for engine in engines():
        shown = stages["swapper"][engine.name]
        assert dict(shown.options) == dict(engine.options)
        assert {each.option: tuple(each.values) for each in shown.choices} == dict(engine.choices)
    assert set(stages["segmenter"]) == {model.name for model in matting_models()}
    for shown in (*stages["detector"].values(), *stages["segmenter"].values()):
        without = [model for model in shown.models if not (repository / model / "1" / "model.onnx").exists()]
        assert list(shown.missing) == without
    encode, h264 = EncodeSettings(), stages["compositor"]["h264"]
    assert dict(h264.options) == {
        "container": "mp4",
        "preset": encode.preset,
        "crf": str(encode.crf),
        "bframes": str(encode.bf),
        "threads": str(encode.threads),
    }
    assert {each.option: tuple(each.values) for each in h264.choices}["preset"] == PRESETS
    assert stages["compositor"]["vp9"].options["container"] == "webm"
    assert float(stages["background"]["blur"].options["blur"]) == DEFAULT_BLUR
    assert (described.profile, described.licence_policy) == ("starter", "commercial")


async def test_files_and_ranges_are_looked_at_before_a_job_is_made(door: Door, brief: Path, portrait: Path) -> None:
    video, picture = await door.asset(brief), await door.asset(portrait)
    spec = pb.JobSpec(asset_id=video)
    spec.keep.add(start_ms=0, end_ms=500)
    spec.keep.add(start_ms=60_000)
    spec.background.kind = compositor_pb2.BACKGROUND_KIND_IMAGE
    spec.background.asset_id = video
    spec.engines.swapper = "none such"
    wrong = await door.refused(spec)
    assert set(wrong) == {"spec.keep[1]", "spec.background.asset_id", "spec.engines.swapper", "spec.identities"}
    assert wrong["spec.keep[1]"].startswith("RANGE_OUTSIDE_VIDEO")
    spec = pb.JobSpec(asset_id=video)
    spec.background.kind = compositor_pb2.BACKGROUND_KIND_VIDEO
    spec.background.asset_id = picture
    assert "PNG picture" in (await door.refused(spec))["spec.background.asset_id"]
    assert not [each for each in await door.mesh.store.list("local/jobs") if "check_" in each.key]


async def test_a_job_rendered_again_is_the_job_made_anew_without_a_look(
    door: Door, brief: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    analyse, link = Detection.analyse, Detection.link

    async def counted_analyse(self: Any, order: Any) -> Any:
        looks.append("analyse")
        return await analyse(self, order)

    async def counted_link(self: Any, *args: Any, **kwargs: Any) -> Any:
        looks.append("link")
        return await link(self, *args, **kwargs)

    monkeypatch.setattr(Detection, "analyse", counted_analyse)
    monkeypatch.setattr(Detection, "link", counted_link)
    spec = pb.JobSpec(asset_id=await door.asset(brief))
    spec.identities.add(name="face1", identity_id=await door.face(portrait))
    spec.proof.segments = 2
    first = await door.ended(await door.create(spec))
    assert looks == ["analyse", "analyse", "link"]
    spec.engines.swapper_options["occlusion"] = "off"
    spec.provenance.label = "again"
    other = pb.JobSpec()
    other.CopyFrom(spec)
    other.ClearField("asset_id")
    request = pb.RerenderJobRequest(id=first.id, request_id="again", spec=other)
    again = (await door.jobs.RerenderJob(request, timeout=60)).job
    again = await door.ended(again.id)
    assert looks == ["analyse", "analyse", "link"], "nothing is looked at again"
    # The source may go: what was rendered again stands, and can be rendered once more.
    await door.jobs.DeleteJob(pb.DeleteJobRequest(id=first.id), timeout=20)
    once_more = pb.RerenderJobRequest(id=again.id, request_id="once more", spec=other)
    begun = [(await door.jobs.RerenderJob(once_more, timeout=60)).job.id, await door.create(spec)]
    third, fresh = [await door.ended(job) for job in begun]
    said = [await door.report(job) for job in (again, third, fresh)]
    assert len({report["plane_digest"] for report in said}) == 1
    assert said[0]["plane_digest"]
    assert said[0]["faces_covered"] == said[2]["faces_covered"] > 0
    assert said[0]["people"] == said[2]["people"]
    assert [report["timeline_of"] for report in said] == [first.id, again.id, None]
    assert said[2]["settings"]["engines"] == {
        "detector": "blazeface",
        "max_faces": MOST_FACES,
        "swapper": "mesh",
        "swapper_options": {"colour": "auto", "occlusion": "off"},
        "segmenter": None,
    }
    assert said[0]["settings"]["engines"]["detector"] is None, "nothing was looked at"
