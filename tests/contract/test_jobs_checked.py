"""What the public door says before it makes a job, and of jobs that fail, over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from masquerade.v1 import compositor_pb2, errors_pb2
from masquerade.v1 import job_pb2 as pb
from services.common import errors
from services.common.errors import InvalidSpec
from tests.support.jobs_house import JobsHouse, jobs_house

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[JobsHouse]:
    """One for the tests of this module."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "out").mkdir()
    async with jobs_house(folder, places={"archive": str(folder / "out")}) as opened:
        yield opened


@pytest.fixture
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place `archive`."""
    return next(tmp_path_factory.getbasetemp().glob("checked*/out"))


async def violations(house: JobsHouse, spec: pb.JobSpec, request: str) -> dict[str, str]:
    """Everything that is wrong, by field; each field is named once."""
    with pytest.raises(InvalidSpec) as caught:
        await house.create(spec, request)
    found = {each.field: each.problem for each in caught.value.violations}
    assert len(found) == len(caught.value.violations)
    return found


async def test_form_names_and_files_are_judged_together_and_nothing_is_stored(house: JobsHouse) -> None:
    spec = pb.JobSpec(asset_id=await house.asset(b"a video of three seconds"), profile="vapour", segment_frames=7)
    spec.cast.add(identity="nobody")
    spec.keep.add(start_ms=90_000)
    spec.apply.add(start_ms=5, end_ms=2)
    spec.background.kind = compositor_pb2.BACKGROUND_KIND_IMAGE
    spec.background.asset_id = await house.asset(b"toys take everything for a video")
    spec.encode.crf = 99
    spec.encode.preset = "hasty"
    spec.engines.swapper = "none such"
    spec.engines.segmenter = "toy"
    spec.licence_policy = "pirate"
    spec.publish.add(place="nowhere", name="../up.mp4")
    asked = [rpc for rpc, _ in house.peers.asked]
    assert set(await violations(house, spec, "all wrong")) == {
        "spec.profile",
        "spec.segment_frames",
        "spec.cast[0].identity",
        "spec.identities",
        "spec.keep[0]",
        "spec.apply[0]",
        "spec.background.asset_id",
        "spec.encode.crf",
        "spec.encode.preset",
        "spec.engines.swapper",
        "spec.engines.segmenter",
        "spec.licence_policy",
        "spec.publish[0].place",
        "spec.publish[0].name",
    }
    assert not (await house.ask("ListJobs", pb.ListJobsRequest())).jobs
    assert await house.store.list("anna/jobs") == []
    new = [rpc for rpc, _ in house.peers.asked][len(asked) :]
    assert set(new) == {"ingest.Probe", "ingest.Index"}


async def test_a_name_alone_is_judged_as_well(house: JobsHouse) -> None:
    spec = pb.JobSpec(asset_id=await house.asset(b"one name"), profile="vapour")
    assert set(await violations(house, spec, "one name")) == {"spec.profile"}
    assert (await violations(house, pb.JobSpec(profile="vapour"), "")).keys() == {
        "spec.profile",
        "spec.asset_id",
        "request_id",
    }


async def test_another_tenants_file_is_not_looked_at(house: JobsHouse) -> None:
    spec = pb.JobSpec(asset_id=await house.asset(b"of berta", tenant="berta"), segment_frames=7)
    spec.keep.add(start_ms=90_000)
    asked = len(house.peers.asked)
    assert set(await violations(house, spec, "of berta")) == {"spec.segment_frames"}
    assert len(house.peers.asked) == asked
    spec.ClearField("segment_frames")
    with pytest.raises(errors.AssetNotFound):
        await house.create(spec, "of berta")


async def test_the_door_describes_what_the_services_say(house: JobsHouse) -> None:
    described: Any = await house.ask("Describe", pb.DescribeRequest())
    stages = {stage.stage: {engine.name: engine for engine in stage.engines} for stage in described.stages}
    mesh, toy = stages["swapper"]["mesh"], stages["segmenter"]["toy"]
    assert (mesh.is_default, dict(mesh.options)) == (True, {"colour": "auto"})
    assert [(each.option, list(each.values)) for each in mesh.choices] == [("colour", ["auto", "source"])]
    assert (toy.is_default, list(toy.models), list(toy.missing)) == (False, ["toy_matting"], ["toy_matting"])
    assert stages["detector"]["blazeface"].licences == ["Apache-2.0", "Apache-2.0"]
    assert stages["background"]["blur"].options["blur"] == "0.02"
    assert (described.profile, described.licence_policy, list(described.places)) == (
        "starter",
        "commercial",
        ["archive"],
    )
    assert described.version


async def test_a_published_result_has_its_record_beside_it(house: JobsHouse, out: Path) -> None:
    spec = pb.JobSpec(asset_id=await house.asset(b"published"))
    spec.publish.add(place="archive", name="there.mp4")
    spec.publish.add(place="archive")
    done = await house.ended((await house.create(spec, "published")).id)
    assert [each.done for each in done.publications] == [True, True]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["there.mp4", "there.mp4.json", f"{done.id}.mp4", f"{done.id}.mp4.json"]
    )
    assert (out / "there.mp4.json").read_bytes() == await house.store.get_bytes(done.record.key)


async def test_anothers_file_gets_no_record_beside_it(house: JobsHouse, out: Path) -> None:
    (out / "taken.mp4").write_bytes(b"somebody else's")
    spec = pb.JobSpec(asset_id=await house.asset(b"taken"))
    spec.publish.add(place="archive", name="taken.mp4")
    failed = await house.ended((await house.create(spec, "taken")).id)
    assert failed.failure.reason == errors_pb2.REASON_PUBLISH_FAILED
    assert str(out) not in failed.failure.message
    assert not (out / "taken.mp4.json").exists()
    (out / "taken.mp4").unlink()
    await house.ask("RetryJob", pb.RetryJobRequest(id=failed.id))
    assert (await house.ended(failed.id)).state == pb.JOB_STATE_SUCCEEDED
    assert (out / "taken.mp4.json").exists()


async def test_a_failure_names_the_stage_and_the_frame(house: JobsHouse) -> None:
    spec = pb.JobSpec(asset_id=await house.asset(b"damaged"))
    house.peers.fail("compositor.RenderSegment", errors.CorruptMedia(path="v.mp4", at="frame 12"))
    failed = await house.ended((await house.create(spec, "damaged")).id)
    house.peers.fail("compositor.RenderSegment", None)
    assert (failed.failure.stage, failed.failure.frame) == ("rendering", 12)
    house.peers.fail("compositor.Assemble", errors.CorruptMedia(path="v.mp4"))
    failed = await house.ended((await house.create(spec, "damaged elsewhere")).id)
    house.peers.fail("compositor.Assemble", None)
    assert failed.failure.stage == "assembling"
    assert not failed.failure.HasField("frame")
