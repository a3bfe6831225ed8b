"""What JobService promises to other systems, over the wire, with toys for peers and two tenants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from masquerade.v1 import compositor_pb2, identity_pb2, orchestrator_pb2
from masquerade.v1 import job_pb2 as pb
from services.common import errors
from services.common.errors import MasqueradeError
from services.common.records.tables import assets
from services.orchestrator.keys import job_id
from tests.support.jobs_house import JobsHouse, blurred, faced, jobs_house

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[JobsHouse]:
    """One for the tests of this module."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "out").mkdir()
    async with jobs_house(folder, tenant_waiting=4, places={"archive": str(folder / "out")}) as opened:
        yield opened


async def refused(call: Any) -> MasqueradeError:
    """The typed error that a call ends in."""
    with pytest.raises(MasqueradeError) as caught:
        await call
    return caught.value


async def test_a_job_runs_to_its_end_and_shows_its_way(house: JobsHouse) -> None:
    spec, _ = await faced(house, b"first")
    spec.labels["shelf"] = "top"
    created = await house.create(spec, "first")
    assert (created.state, created.request_id) == (pb.JOB_STATE_QUEUED, "first")
    seen = await house.watched(created.id)
    assert [each.sequence for each in seen] == sorted({each.sequence for each in seen})
    assert seen[0].state == pb.JOB_STATE_QUEUED
    assert seen[-1].state == pb.JOB_STATE_SUCCEEDED
    job = await house.get(created.id)
    assert [change.state for change in job.history] == [
        pb.JOB_STATE_QUEUED,
        pb.JOB_STATE_ANALYSING,
        pb.JOB_STATE_LINKING,
        pb.JOB_STATE_RENDERING,
        pb.JOB_STATE_ASSEMBLING,
        pb.JOB_STATE_VERIFYING,
        pb.JOB_STATE_PUBLISHING,
        pb.JOB_STATE_SUCCEEDED,
    ]
    assert {change.state for change in job.history} <= {each.state for each in seen}
    assert job.artifact.key.startswith(f"anna/jobs/{job.id}/finalise/")
    assert job.spec == spec
    assert job.expire_time.ToMilliseconds() > job.create_time.ToMilliseconds()
    left = {name.partition("/")[0] for name in await house.objects(job.id)}
    assert left == {"index", "link", "render", "assemble", "finalise", "report"} - ({"index"} - left)
    assert "analyse" not in left, "samples of faces go with the end"
    lines = await house.lines(job.id)
    assert lines[0] == ("job.created", "key:anna", "done")
    assert len(lines) == 8


async def test_the_same_request_is_the_same_job_and_another_content_is_refused(house: JobsHouse) -> None:
    spec = await blurred(house, content=b"same")
    first, again = await asyncio.gather(house.create(spec, "same"), house.create(spec, "same"))
    assert first.id == again.id
    await house.ended(first.id)
    assert (await house.create(spec, "same")).id == first.id
    spec.background.blur = 0.25
    error = await refused(house.create(spec, "same"))
    assert (error.reason, error.fields["request_id"]) == ("REQUEST_ID_REUSED", "same")


async def test_a_finished_job_gives_its_history_and_from_any_number_on_only_what_follows(house: JobsHouse) -> None:
    spec, _ = await faced(house, b"history")
    job = (await house.create(spec, "history")).id
    await house.ended(job)
    everything = await house.watched(job)
    assert len(everything) == 8 + 4, "states and segments"
    assert all(each.time.ToMilliseconds() for each in everything)
    for place, each in enumerate(everything):
        assert await house.watched(job, from_sequence=each.sequence + 1) == everything[place + 1 :]


async def test_a_watch_that_comes_back_misses_nothing_and_repeats_nothing(house: JobsHouse) -> None:
    spec, _ = await faced(house, b"back")
    rendering = house.peers.hold("compositor.RenderSegment")
    job = (await house.create(spec, "back")).id
    seen: list[pb.Progress] = []
    call = house.stub.WatchJob(pb.WatchJobRequest(id=job), metadata=(("who", "anna"),), timeout=30)
    async for answer in call:
        seen.append(answer.progress)
        if answer.progress.state == pb.JOB_STATE_RENDERING:
            break
    call.cancel()
    await asyncio.wait_for(rendering.wait(), 10)
    house.peers.let_go("compositor.RenderSegment")
    await house.ended(job)
    seen += await house.watched(job, from_sequence=seen[-1].sequence + 1)
    told = [each.sequence for each in seen]
    assert told == sorted(set(told)), "repeated, or out of order"
    assert {each.sequence for each in await house.watched(job)} <= set(told), "missed"


async def test_a_slow_watcher_is_told_where_the_job_is_and_holds_up_nobody(house: JobsHouse) -> None:
    spec, _ = await faced(house, b"slow")
    job = (await house.create(spec, "slow")).id
    slow = house.stub.WatchJob(pb.WatchJobRequest(id=job), metadata=(("who", "anna"),), timeout=30)
    answers = aiter(slow)
    first = (await anext(answers)).progress
    await house.ended(job)
    rest = [answer.progress async for answer in answers]
    assert [first.state, rest[-1].state] == [pb.JOB_STATE_QUEUED, pb.JOB_STATE_SUCCEEDED]


async def test_another_tenant_finds_nothing(house: JobsHouse) -> None:
    spec = await blurred(house, content=b"mine")
    job = (await house.create(spec, "mine")).id
    await house.ended(job)
    for method, request in (
        ("GetJob", pb.GetJobRequest(id=job)),
        ("CancelJob", pb.CancelJobRequest(id=job)),
        ("RetryJob", pb.RetryJobRequest(id=job)),
        ("DeleteJob", pb.DeleteJobRequest(id=job)),
        ("RerenderJob", pb.RerenderJobRequest(id=job, request_id="theirs", spec=spec)),
    ):
        assert (await refused(house.ask(method, request, who="bob"))).reason == "JOB_NOT_FOUND", method
    assert (await refused(house.watched(job, who="bob"))).reason == "JOB_NOT_FOUND"
    assert (await refused(house.create(spec, "theirs", who="bob"))).reason == "ASSET_NOT_FOUND"
    assert job not in [each.id for each in (await house.ask("ListJobs", pb.ListJobsRequest(), who="bob")).jobs]
    assert (await house.get(job)).state == pb.JOB_STATE_SUCCEEDED
    assert (await refused(house.stub.GetJob(pb.GetJobRequest(id=job), timeout=10))).reason == "UNAUTHENTICATED"


async def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_written(house: JobsHouse) -> None:
    spec = pb.JobSpec(asset_key="anna/assets/x", priority=11)
    spec.background.kind = compositor_pb2.BACKGROUND_KIND_IMAGE
    spec.identities.add(name="face 1", portrait_keys=["anna/assets/p"])
    spec.publish.add(place="archive", name="../up")
    spec.encode.crf = 99
    error = await refused(house.create(spec, ""))
    assert error.reason == "INVALID_SPEC"
    assert {each.field for each in error.violations} == {
        "request_id",
        "spec.asset_key",
        "spec.asset_id",
        "spec.background.asset_id",
        "spec.identities[0].name",
        "spec.identities[0].identity_id",
        "spec.identities[0].portrait_keys",
        "spec.publish[0].name",
        "spec.priority",
        "spec.encode.crf",
    }


async def test_lists_are_filtered_and_paged_newest_first(house: JobsHouse) -> None:
    jobs = []
    for number in range(3):
        spec = await blurred(house, tenant="carla", content=f"page {number}".encode())
        spec.labels["shelf"] = "odd" if number % 2 else "even"
        spec.labels["box"] = f"{number}"
        jobs.append((await house.create(spec, f"page {number}", who="carla")).id)
    for job in jobs:
        await house.ended(job, who="carla")

    async def listed(**options: Any) -> Any:
        return await house.ask("ListJobs", pb.ListJobsRequest(**options), who="carla")

    first = await listed(page_size=2)
    second = await listed(page_size=2, page_token=first.next_page_token)
    assert [job.id for job in [*first.jobs, *second.jobs]] == jobs[::-1]
    assert not second.next_page_token
    assert [job.id for job in (await listed(labels={"shelf": "even"})).jobs] == [jobs[2], jobs[0]]
    assert [job.id for job in (await listed(labels={"shelf": "even", "box": "0"})).jobs] == [jobs[0]]
    assert not (await listed(labels={"shelf": "eve"})).jobs
    assert not (await listed(state=pb.JOB_STATE_FAILED)).jobs
    assert len((await listed(state=pb.JOB_STATE_SUCCEEDED)).jobs) == 3
    middle = (await house.get(jobs[1], who="carla")).create_time
    assert [job.id for job in (await listed(create_time_before=middle)).jobs] == [jobs[0]]
    assert [job.id for job in (await listed(create_time_from=middle)).jobs] == [jobs[2], jobs[1]]
    wrong = listed(page_size=2, page_token=first.next_page_token, state=pb.JOB_STATE_SUCCEEDED)
    assert (await refused(wrong)).violations[0].field == "page_token"


async def test_a_cancelled_job_stops_and_is_taken_up_from_there(house: JobsHouse) -> None:
    spec, _ = await faced(house, b"cancelled")
    rendering = house.peers.hold("compositor.RenderSegment")
    job = (await house.create(spec, "cancelled")).id
    await asyncio.wait_for(rendering.wait(), 10)
    begun = time.monotonic()
    answer = (await house.ask("CancelJob", pb.CancelJobRequest(id=job))).job
    assert time.monotonic() - begun < 2.5
    assert answer.state == pb.JOB_STATE_CANCELLED
    assert "compositor.RenderSegment" in house.peers.cancelled
    assert (await house.ask("CancelJob", pb.CancelJobRequest(id=job))).job.state == pb.JOB_STATE_CANCELLED
    house.peers.let_go("compositor.RenderSegment")
    looked = len(house.peers.of("detector.AnalyseSegment"))
    again = (await house.ask("RetryJob", pb.RetryJobRequest(id=job))).job
    assert again.state == pb.JOB_STATE_QUEUED
    done = await house.ended(job)
    assert done.state == pb.JOB_STATE_SUCCEEDED
    assert done.history[-1].attempt == 1
    assert len(house.peers.of("detector.AnalyseSegment")) > looked, "asked again: the services find what is finished"
    error = await refused(house.ask("RetryJob", pb.RetryJobRequest(id=job)))
    assert (error.reason, error.fields["state"]) == ("JOB_STATE_FORBIDS", "succeeded")


STAGES = (
    "ingest.Index",
    "ingest.Plan",
    "detector.AnalyseSegment",
    "detector.Link",
    "compositor.RenderSegment",
    "compositor.Assemble",
    "compositor.Verify",
    "compositor.Finalise",
)


@pytest.mark.parametrize("rpc", STAGES)
async def test_whatever_a_job_is_doing_it_stops_when_it_is_cancelled(house: JobsHouse, rpc: str) -> None:
    spec, _ = await faced(house, rpc.encode())
    reached = house.peers.hold(rpc)
    job = (await house.create(spec, rpc)).id
    await asyncio.wait_for(reached.wait(), 10)
    house.peers.cancelled.clear()
    begun = time.monotonic()
    answer = (await house.ask("CancelJob", pb.CancelJobRequest(id=job))).job
    assert (answer.state, time.monotonic() - begun < 2.5) == (pb.JOB_STATE_CANCELLED, True)
    assert set(house.peers.cancelled) == {rpc}, "the call in flight was cancelled before the answer"
    house.peers.let_go(rpc)
    kept = await house.objects(job)
    await asyncio.sleep(0.3)
    assert await house.objects(job) == kept, "somebody still works on it"
    await house.ask("DeleteJob", pb.DeleteJobRequest(id=job))
    assert await house.objects(job) == []


async def test_a_job_that_waits_ends_at_once_and_too_many_that_wait_are_refused(house: JobsHouse) -> None:
    rendering = house.peers.hold("compositor.RenderSegment")
    jobs = []
    for number in range(8):
        spec = await blurred(house, tenant="dora", content=f"flood {number}".encode())
        jobs.append((await house.create(spec, f"flood {number}", who="dora")).id)
        if number == 3:
            await asyncio.wait_for(rendering.wait(), 10)
            for job in jobs:
                await house.when(job, lambda found: found.state != pb.JOB_STATE_QUEUED, who="dora")
    states = [(await house.get(job, who="dora")).state for job in jobs]
    assert states[4:] == [pb.JOB_STATE_QUEUED] * 4, "four of a tenant run"
    spec = await blurred(house, tenant="dora", content=b"one too many")
    error = await refused(house.create(spec, "one too many", who="dora"))
    assert (error.reason, error.fields["limit"]) == ("QUOTA_EXCEEDED", "waiting jobs")
    assert float(error.fields["retry_after_s"]) > 0
    other = (await house.create(await blurred(house, tenant="emil"), "beside the flood", who="emil")).id
    await house.when(other, lambda found: found.state == pb.JOB_STATE_RENDERING, who="emil", seconds=5)
    begun = time.monotonic()
    waited = (await house.ask("CancelJob", pb.CancelJobRequest(id=jobs[-1]), who="dora")).job
    assert (waited.state, time.monotonic() - begun < 0.5) == (pb.JOB_STATE_CANCELLED, True)
    house.peers.let_go("compositor.RenderSegment")
    for job in jobs[:-1]:
        assert (await house.ended(job, who="dora")).state == pb.JOB_STATE_SUCCEEDED
    await house.ended(other, who="emil")


async def test_a_tenant_that_stores_too_much_is_refused_until_something_is_deleted(house: JobsHouse) -> None:
    spec = await blurred(house, tenant="gina", content=b"much")
    size = sa.update(assets).where(assets.c.tenant == "gina").values(size_bytes=60 << 30)
    await house.records.write(lambda connection: connection.execute(size))
    error = await refused(house.create(spec, "much", who="gina"))
    assert (error.reason, error.fields["limit"]) == ("QUOTA_EXCEEDED", "stored bytes")
    less = sa.update(assets).where(assets.c.tenant == "gina").values(size_bytes=1)
    await house.records.write(lambda connection: connection.execute(less))
    await house.ended((await house.create(spec, "much", who="gina")).id, who="gina")


async def test_a_deleted_job_leaves_nothing(house: JobsHouse) -> None:
    spec = await blurred(house, content=b"deleted")
    rendering = house.peers.hold("compositor.RenderSegment")
    job = (await house.create(spec, "deleted")).id
    await asyncio.wait_for(rendering.wait(), 10)
    error = await refused(house.ask("DeleteJob", pb.DeleteJobRequest(id=job)))
    assert (error.reason, error.fields["state"]) == ("JOB_STATE_FORBIDS", "rendering")
    house.peers.let_go("compositor.RenderSegment")
    await house.ended(job)
    await house.ask("DeleteJob", pb.DeleteJobRequest(id=job))
    assert (await refused(house.get(job))).reason == "JOB_NOT_FOUND"
    assert await house.objects(job) == []
    assert (await house.lines(job))[-1] == ("job.deleted", "key:anna", "done")
    asked = len(house.peers.of("ingest.Index"))
    assert (await house.create(spec, "deleted")).id == job
    assert (await house.ended(job)).state == pb.JOB_STATE_SUCCEEDED
    assert len(house.peers.of("ingest.Index")) == asked + 1, "nothing is remembered of the first one"


async def test_a_result_that_cannot_be_published_stands_and_is_published_by_a_retry(
    house: JobsHouse, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = await blurred(house, content=b"published")
    spec.publish.add(place="archive", name="there.mp4")
    out = next(tmp_path_factory.getbasetemp().glob("house*/out"))
    out.rename(out.with_name("away"))
    job = (await house.create(spec, "published")).id
    failed = await house.ended(job)
    assert (failed.state, failed.failure.reason) == (pb.JOB_STATE_FAILED, 71)
    assert failed.failure.stage == "publishing"
    assert failed.artifact.key
    assert (failed.publications[0].done, failed.publications[0].failure.reason) == (False, 71)
    out.with_name("away").rename(out)
    asked = len(house.peers.asked)
    await house.ask("RetryJob", pb.RetryJobRequest(id=job))
    done = await house.ended(job)
    assert done.state == pb.JOB_STATE_SUCCEEDED
    assert len(house.peers.asked) == asked, "nothing is made anew"
    assert done.publications[0].done
    assert (out / "there.mp4").read_bytes() == done.artifact.key.encode()


async def test_an_unknown_place_is_refused_before_anything_is_made(house: JobsHouse) -> None:
    spec = await blurred(house, content=b"nowhere")
    spec.publish.add(place="nowhere")
    error = await refused(house.create(spec, "nowhere"))
    assert [each.field for each in error.violations] == ["spec.publish[0].place"]


async def test_a_face_whose_consent_does_not_hold_is_refused_and_that_is_a_line(house: JobsHouse) -> None:
    spec, face = await faced(house, b"refused")
    await house.revoke(face)
    assert (await refused(house.create(spec, "refused"))).reason == "CONSENT_REVOKED"
    late, _ = await faced(house, b"late", expires_ms=1)
    assert (await refused(house.create(late, "late"))).reason == "CONSENT_EXPIRED"
    lines = await house.lines(job_id(tenant="anna", request="refused"))
    assert lines == [("job.refused", "key:anna", "refused")]


async def test_consent_withdrawn_in_the_rows_alone_stops_the_job_before_its_result(house: JobsHouse) -> None:
    spec, face = await faced(house, b"revoked in rows")
    verifying = house.peers.hold("compositor.Verify")
    job = (await house.create(spec, "revoked in rows")).id
    await asyncio.wait_for(verifying.wait(), 10)
    await house.revoke(face)
    finalised = len(house.peers.of("compositor.Finalise"))
    house.peers.let_go("compositor.Verify")
    failed = await house.ended(job)
    assert (failed.state, failed.failure.reason) == (pb.JOB_STATE_FAILED, 68)
    assert not failed.artifact.key
    assert len(house.peers.of("compositor.Finalise")) == finalised
    async with asyncio.timeout(5):
        while True:
            if not await house.objects(job):
                break
            await asyncio.sleep(0.02)
    assert (await refused(house.ask("RetryJob", pb.RetryJobRequest(id=job)))).reason == "CONSENT_REVOKED"


async def test_withdrawing_consent_ends_a_running_job_and_erases_it(house: JobsHouse) -> None:
    spec, face = await faced(house, b"withdrawn")
    rendering = house.peers.hold("compositor.RenderSegment")
    job = (await house.create(spec, "withdrawn")).id
    await asyncio.wait_for(rendering.wait(), 10)
    revoke = identity_pb2.RevokeConsentRequest(id=face)
    await house.people.RevokeConsent(revoke, metadata=(("who", "anna"),), timeout=20)
    failed = await house.get(job)
    assert (failed.state, failed.failure.reason) == (pb.JOB_STATE_FAILED, 68)
    assert await house.objects(job) == []
    house.peers.let_go("compositor.RenderSegment")


async def test_a_peer_that_fails_says_why_and_a_retry_succeeds_where_it_is_mended(house: JobsHouse) -> None:
    spec = await blurred(house, content=b"mended")
    house.peers.fail("compositor.Assemble", errors.CorruptMedia(path="v.mp4"))
    job = (await house.create(spec, "mended")).id
    failed = await house.ended(job)
    assert (failed.failure.reason, failed.failure.stage) == (3, "assembling")
    assert failed.failure.remedy
    house.peers.fail("compositor.Assemble", None)
    await house.ask("RetryJob", pb.RetryJobRequest(id=job))
    done = await house.ended(job)
    assert done.state == pb.JOB_STATE_SUCCEEDED
    assert not done.HasField("failure")
    assert [change.attempt for change in done.history if change.state == pb.JOB_STATE_QUEUED] == [0, 1]


async def test_a_job_is_rendered_again_without_a_new_look(house: JobsHouse) -> None:
    spec, _ = await faced(house, b"again")
    job = (await house.create(spec, "again")).id
    await house.ended(job)
    looked = len(house.peers.of("detector.AnalyseSegment")), len(house.peers.of("detector.Link"))
    other = pb.JobSpec()
    other.CopyFrom(spec)
    other.ClearField("asset_id")
    other.provenance.label = "again"
    request = pb.RerenderJobRequest(id=job, request_id="rerender", spec=other)
    made = (await house.ask("RerenderJob", request)).job
    assert made.rerender_of == job
    done = await house.ended(made.id)
    assert done.state == pb.JOB_STATE_SUCCEEDED
    assert (len(house.peers.of("detector.AnalyseSegment")), len(house.peers.of("detector.Link"))) == looked
    assert house.peers.of("compositor.RenderSegment")[-1]["timeline_key"].startswith(f"anna/jobs/{made.id}/link/")
    assert (await house.ask("RerenderJob", request)).job.id == made.id
    without = (await house.create(await blurred(house, content=b"no timeline"), "no timeline")).id
    await house.ended(without)
    error = await refused(house.ask("RerenderJob", pb.RerenderJobRequest(id=without, request_id="r", spec=other)))
    assert error.reason == "JOB_STATE_FORBIDS"
    spec.asset_id = await house.asset(b"another video")
    error = await refused(house.ask("RerenderJob", pb.RerenderJobRequest(id=job, request_id="r", spec=spec)))
    assert [each.field for each in error.violations] == ["spec.asset_id"]


async def test_the_inner_door_opens_on_the_same_book(house: JobsHouse) -> None:
    await house.store.put_bytes("anna/assets/inner", b"inner")
    spec = pb.JobSpec(asset_key="anna/assets/inner")
    request = orchestrator_pb2.SubmitRequest(tenant="anna", request_id="inner", spec=spec)
    job = (await house.inner.Submit(request)).job.id
    assert (await house.ended(job)).state == pb.JOB_STATE_SUCCEEDED
    spec.provenance.label = "other"
    request.spec.CopyFrom(spec)
    assert (await refused(house.inner.Submit(request))).reason == "REQUEST_ID_REUSED"


async def test_what_can_be_asked_for_is_described(house: JobsHouse) -> None:
    described = await house.ask("Describe", pb.DescribeRequest())
    assert (described.profile, list(described.places)) == ("starter", ["archive"])
