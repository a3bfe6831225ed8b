"""The public door to identities: over the wire, with two tenants, and with canaries in every picture."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from masquerade.v1 import identity_pb2 as pb
from masquerade.v1 import job_pb2
from services.common.errors import (
    AssetNotFound,
    ConsentRequired,
    ConsentRevoked,
    FaceTurned,
    IdentityNotFound,
    InvalidSpec,
    MasqueradeError,
    NoFaceInPortrait,
    NotAnImage,
    RequestIdReused,
    Unauthenticated,
    Unavailable,
)
from services.common.records.tables import consents, identities
from services.orchestrator.consents import check, resolve
from services.orchestrator.identities.people import People
from services.orchestrator.identities.withdrawing import ABANDONED_MS
from services.orchestrator.progress import JobState
from tests.support.people_house import ANNA, BOB, SECRET, PeopleHouse, found_in, people_house, portrait

SELF = job_pb2.Consent(method=job_pb2.CONSENT_METHOD_SELF)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[PeopleHouse]:
    async with people_house(tmp_path) as opened:
        yield opened


def wanted(*assets: str, consent: job_pb2.Consent = SELF, request_id: str = "r1", **more: Any) -> Any:
    return pb.CreateIdentityRequest(
        name=more.pop("name", "Anna"), asset_ids=assets, consent=consent, request_id=request_id, **more
    )


async def enrolled(house: PeopleHouse, content: bytes = b"", *, request_id: str = "r1") -> pb.Identity:
    asset = await house.asset(content or portrait())
    return (await house.ask("CreateIdentity", wanted(asset, request_id=request_id))).identity


async def rows(house: PeopleHouse, table: sa.Table) -> list[Any]:
    return list(await house.records.read(lambda c: c.execute(sa.select(table)).all()))


async def everything(house: PeopleHouse) -> list[str]:
    return [each.key for tenant in ("anna", "bob") for each in await house.store.list(tenant)]


async def test_portraits_become_an_identity_with_a_consent(house: PeopleHouse) -> None:
    assets = [await house.asset(portrait(), name=name) for name in ("one.png", "two.png")]
    consent = job_pb2.Consent(method=job_pb2.CONSENT_METHOD_ATTESTED, statement="she said yes", attested_by="Carl")
    consent.expire_time.FromMilliseconds(4_000_000_000_000)
    made = (await house.ask("CreateIdentity", wanted(*assets, consent=consent))).identity
    assert made.id.startswith("idn_")
    assert len(made.id) == 30
    assert [each.name for each in made.quality] == ["one.png", "two.png"]
    assert made.quality[0].face_width_px == 120.5
    assert list(made.quality[0].warnings) == ["soft"]
    assert made.consent.statement == "she said yes"
    assert made.consent.attested_by == "Carl"
    assert list(made.consent.scopes) == ["face_swap"]
    assert made.consent.expire_time.ToMilliseconds() == 4_000_000_000_000
    assert not made.HasField("revoke_time")
    assert (await house.ask("GetIdentity", pb.GetIdentityRequest(id=made.id))).identity == made
    found = await resolve(house.records, "anna", made.id)
    assert found.key.startswith(f"anna/identities/{made.id}/")
    assert (await house.store.get_bytes(found.key)).startswith(b"IDENTITY")
    assert found.consent_id == made.consent_id
    actions = [(action, named) for action, named, _ in await house.lines()]
    assert actions == [("consent.created", made.consent_id), ("identity.created", made.id)]


async def test_who_attested_is_the_caller_if_nobody_else_is_named(house: PeopleHouse) -> None:
    assert (await enrolled(house)).consent.attested_by == "key:anna"


async def test_the_same_request_gives_the_same_identity(house: PeopleHouse) -> None:
    asset = await house.asset(portrait())
    first = await house.ask("CreateIdentity", wanted(asset))
    assert await house.ask("CreateIdentity", wanted(asset)) == first
    assert len(house.detector.asked) == 1
    with pytest.raises(RequestIdReused):
        await house.ask("CreateIdentity", wanted(asset, name="Berta"))
    # The same id of another tenant is another request.
    theirs = await house.asset(portrait(), tenant="bob")
    other = await house.ask("CreateIdentity", wanted(theirs), who=BOB)
    assert other.identity.id != first.identity.id


async def test_requests_without_an_id_are_all_different(house: PeopleHouse) -> None:
    asset = await house.asset(portrait())
    made = {(await house.ask("CreateIdentity", wanted(asset, request_id=""))).identity.id for _ in range(3)}
    assert len(made) == 3


async def test_eight_twins_of_a_request_make_one_identity(house: PeopleHouse) -> None:
    asset = await house.asset(portrait())
    answers = await asyncio.gather(*(house.ask("CreateIdentity", wanted(asset)) for _ in range(8)))
    assert len({answer.identity.id for answer in answers}) == 1
    assert len(await rows(house, identities)) == 1
    assert len(await rows(house, consents)) == 1


async def test_twins_with_other_contents_leave_one_identity_and_no_orphan(house: PeopleHouse) -> None:
    assets = [await house.asset(portrait()) for _ in range(4)]
    asked = (house.ask("CreateIdentity", wanted(asset)) for asset in assets)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    made = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(made) == 1
    assert all(isinstance(answer, RequestIdReused) for answer in answers if isinstance(answer, BaseException))
    below = await house.store.list("anna/identities")
    assert len(below) == 1


async def test_every_portrait_that_cannot_be_used_is_named(house: PeopleHouse) -> None:
    contents = [portrait(), b"no face", portrait(), b"turned", b"text", portrait()]
    assets = [await house.asset(content, name=f"{n}.png") for n, content in enumerate(contents)]
    with pytest.raises(NoFaceInPortrait) as caught:
        await house.ask("CreateIdentity", wanted(*assets))
    assert [each.field for each in caught.value.violations] == ["asset_ids[1]", "asset_ids[3]", "asset_ids[4]"]
    assert caught.value.fields["portrait"] == "1.png"
    assert "3.png" in caught.value.violations[1].problem
    assert await house.store.list("anna/identities") == []
    assert await rows(house, identities) == []
    assert [line[0] for line in await house.lines()] == ["identity.refused"]


@pytest.mark.parametrize(("content", "error"), [(b"turned", FaceTurned), (b"text", NotAnImage)])
async def test_a_portrait_that_was_refused_can_be_exchanged(
    content: bytes, error: type[MasqueradeError], house: PeopleHouse
) -> None:
    with pytest.raises(error):
        await house.ask("CreateIdentity", wanted(await house.asset(content)))
    await house.ask("CreateIdentity", wanted(await house.asset(portrait())))


async def test_assets_of_others_are_not_there(house: PeopleHouse) -> None:
    theirs = await house.asset(portrait(), tenant="bob")
    mine = await house.asset(portrait())
    with pytest.raises(AssetNotFound) as caught:
        await house.ask("CreateIdentity", wanted(mine, theirs, "asset_" + 26 * "x"))
    assert [each.field for each in caught.value.violations] == ["asset_ids[1]", "asset_ids[2]"]
    assert house.detector.asked == []


async def test_nobody_is_enrolled_without_consent(house: PeopleHouse) -> None:
    asset = await house.asset(portrait())
    with pytest.raises(ConsentRequired) as caught:
        await house.ask("CreateIdentity", wanted(asset, consent=job_pb2.Consent()))
    assert [each.field for each in caught.value.violations] == ["consent.method"]
    assert house.detector.asked == []
    ((action, _, decision),) = await house.lines()
    assert (action, decision) == ("consent.refused", "refused")


@pytest.mark.parametrize(
    ("consent", "path"),
    [
        (job_pb2.Consent(method=job_pb2.CONSENT_METHOD_ATTESTED, statement="  "), "consent.statement"),
        (job_pb2.Consent(method=job_pb2.CONSENT_METHOD_SYNTHETIC), "consent.method"),
        (job_pb2.Consent(method=job_pb2.CONSENT_METHOD_SELF, scopes=["Not A Name"]), "consent.scopes[0]"),
        (job_pb2.Consent(method=job_pb2.CONSENT_METHOD_SELF, statement="x" * 1001), "consent.statement"),
        (job_pb2.Consent(method=job_pb2.CONSENT_METHOD_SELF, expire_time={"seconds": 1}), "consent.expire_time"),
        (job_pb2.Consent(method=job_pb2.CONSENT_METHOD_SELF, expire_time={"seconds": 1 << 60}), "consent.expire_time"),
    ],
)
async def test_a_consent_says_what_it_must(consent: job_pb2.Consent, path: str, house: PeopleHouse) -> None:
    with pytest.raises(InvalidSpec) as caught:
        await house.ask("CreateIdentity", wanted(await house.asset(portrait()), consent=consent))
    assert [each.field for each in caught.value.violations] == [path]


async def test_all_that_is_wrong_is_said_at_once(house: PeopleHouse) -> None:
    request = wanted(
        "asset_a", "asset_a", "a", consent=job_pb2.Consent(attested_by="x" * 201), name="n" * 201, request_id="r" * 201
    )
    with pytest.raises(ConsentRequired) as caught:
        await house.ask("CreateIdentity", request)
    named = {each.field for each in caught.value.violations}
    paths = {"name", "request_id", "asset_ids[1]", "asset_ids[2]", "consent.method", "consent.attested_by"}
    assert named == paths
    with pytest.raises(InvalidSpec):
        await house.ask("CreateIdentity", wanted())


async def test_characters_that_no_text_has_are_refused_and_nobodys_id(house: PeopleHouse) -> None:
    consent = job_pb2.Consent(method=job_pb2.CONSENT_METHOD_ATTESTED, statement="a\0", attested_by="b\0")
    with pytest.raises(InvalidSpec) as caught:
        await house.ask("CreateIdentity", wanted("asset_\0", consent=consent, name="n\0", request_id="\0"))
    named = {each.field for each in caught.value.violations}
    assert named == {"asset_ids[0]", "name", "request_id", "consent.statement", "consent.attested_by"}
    with pytest.raises(IdentityNotFound):
        await house.ask("GetIdentity", pb.GetIdentityRequest(id="idn_\0"))
    with pytest.raises(IdentityNotFound):
        await house.records.read(lambda c: check(c, "anna", ["idn_\0"], now_ms=2))


async def test_a_drawn_face_comes_with_its_landmarks(house: PeopleHouse) -> None:
    points = np.arange(478 * 3, dtype="<f4")
    asset, landmarks = await house.asset(portrait()), await house.asset(points.tobytes())
    synthetic = job_pb2.Consent(method=job_pb2.CONSENT_METHOD_SYNTHETIC)
    request = wanted(asset, consent=synthetic, landmarks_asset_id=landmarks)
    made = (await house.ask("CreateIdentity", request)).identity
    assert made.drawn
    (sent,) = house.detector.asked[-1].portraits
    assert list(sent.landmarks) == points.tolist()
    assert (await resolve(house.records, "anna", made.id)).is_drawn
    await house.ask("DeleteIdentity", pb.DeleteIdentityRequest(id=made.id))
    assert await everything(house) == []
    asset = await house.asset(portrait())
    short = await house.asset(b"1234")
    request = wanted(asset, consent=synthetic, landmarks_asset_id=short, request_id="r2")
    with pytest.raises(InvalidSpec) as caught:
        await house.ask("CreateIdentity", request)
    assert [each.field for each in caught.value.violations] == ["landmarks_asset_id"]


async def test_identities_are_listed_newest_first_in_pages(house: PeopleHouse) -> None:
    made = [(await enrolled(house, request_id=f"r{n}")).id for n in range(5)]
    await house.ask("CreateIdentity", wanted(await house.asset(portrait(), tenant="bob")), who=BOB)
    seen, token = [], ""
    while True:
        answer = await house.ask("ListIdentities", pb.ListIdentitiesRequest(page_size=2, page_token=token))
        seen += [each.id for each in answer.identities]
        token = answer.next_page_token
        if len(seen) == 2:
            # One that comes in between is on no page twice, and moves nobody.
            await enrolled(house, request_id="late")
        if not token:
            break
    assert seen == made[::-1]
    first = await house.ask("ListIdentities", pb.ListIdentitiesRequest(page_size=1))
    for bad, who in (("x", ANNA), ("eA==", ANNA), ("ж", ANNA), (first.next_page_token, BOB)):
        with pytest.raises(InvalidSpec):
            await house.ask("ListIdentities", pb.ListIdentitiesRequest(page_token=bad), who=who)


async def test_what_belongs_to_others_is_not_there(house: PeopleHouse) -> None:
    mine = await enrolled(house)
    for method, request in (
        ("GetIdentity", pb.GetIdentityRequest(id=mine.id)),
        ("DeleteIdentity", pb.DeleteIdentityRequest(id=mine.id)),
        ("RevokeConsent", pb.RevokeConsentRequest(id=mine.id)),
    ):
        with pytest.raises(IdentityNotFound):
            await house.ask(method, request, who=BOB)
    assert not (await house.ask("ListIdentities", pb.ListIdentitiesRequest(), who=BOB)).identities
    with pytest.raises(IdentityNotFound):
        await resolve(house.records, "bob", mine.id)
    with pytest.raises(Unauthenticated):
        await house.ask("GetIdentity", pb.GetIdentityRequest(id=mine.id), who=replace(BOB, tenant="nobody"))


async def test_deleting_erases_the_face_and_stops_the_jobs_that_use_it(house: PeopleHouse) -> None:
    made = await enrolled(house)
    running = await house.job([made.id], state=JobState.RENDERING)
    waiting = await house.job([made.id], state=JobState.QUEUED)
    failed = await house.job([made.id], state=JobState.FAILED)
    done = await house.job([made.id], state=JobState.SUCCEEDED)
    another = await house.job([], state=JobState.RENDERING)
    await house.ask("DeleteIdentity", pb.DeleteIdentityRequest(id=made.id))
    assert {job for _, job, _ in house.stopped} == {running, waiting}
    assert all(isinstance(error, ConsentRevoked) for _, _, error in house.stopped)
    assert house.faces_at_stop == [1, 1], "else a job would fail because of a face that is missing"
    for job in (running, waiting, failed):
        assert await house.stages(job) == set()
    assert await house.stages(done) == {"index", "finalise"}
    assert "analyse" in await house.stages(another)
    assert not [key for key in await everything(house) if "/identities/" in key or "/assets/" in key]
    with pytest.raises(IdentityNotFound):
        await house.ask("GetIdentity", pb.GetIdentityRequest(id=made.id))
    with pytest.raises(IdentityNotFound):
        await house.ask("DeleteIdentity", pb.DeleteIdentityRequest(id=made.id))
    actions = [action for action, _, _ in await house.lines()][2:]
    assert actions == ["consent.revoked", "asset.deleted", "identity.deleted"]


async def test_revoking_erases_the_face_and_says_when(house: PeopleHouse) -> None:
    made = await enrolled(house)
    running = await house.job([made.id], state=JobState.ANALYSING)
    before = time.time()
    revoked = (await house.ask("RevokeConsent", pb.RevokeConsentRequest(id=made.id))).identity
    assert revoked.revoke_time.ToMilliseconds() / 1000 == pytest.approx(before, abs=30)
    assert [job for _, job, _ in house.stopped] == [running]
    assert await everything(house) == []
    assert (await house.ask("GetIdentity", pb.GetIdentityRequest(id=made.id))).identity == revoked
    assert (await house.ask("RevokeConsent", pb.RevokeConsentRequest(id=made.id))).identity == revoked
    with pytest.raises(ConsentRevoked):
        await resolve(house.records, "anna", made.id)
    with pytest.raises(ConsentRevoked):
        await house.records.read(lambda c: check(c, "anna", [made.id], now_ms=2))
    # The same request does not bring it back.
    asset = await house.asset(portrait())
    with pytest.raises(RequestIdReused):
        await house.ask("CreateIdentity", wanted(asset))


async def test_a_portrait_of_another_identity_stays_with_it(house: PeopleHouse) -> None:
    shared, own = await house.asset(portrait()), await house.asset(portrait())
    first = (await house.ask("CreateIdentity", wanted(shared, own, request_id="r1"))).identity
    second = (await house.ask("CreateIdentity", wanted(shared, request_id="r2"))).identity
    await house.ask("DeleteIdentity", pb.DeleteIdentityRequest(id=first.id))
    left = await everything(house)
    assert f"anna/assets/{shared.removeprefix('asset_')}" in left
    assert f"anna/assets/{own.removeprefix('asset_')}" not in left
    await house.ask("DeleteIdentity", pb.DeleteIdentityRequest(id=second.id))
    assert await everything(house) == []


async def test_a_job_that_does_not_stop_leaves_the_consent_withdrawn_and_the_rest_to_the_sweep(
    house: PeopleHouse,
) -> None:
    made = await enrolled(house)
    running = await house.job([made.id], state=JobState.RENDERING)
    house.stop_fails = Unavailable(peer="a worker")
    with pytest.raises(Unavailable):
        await house.ask("RevokeConsent", pb.RevokeConsentRequest(id=made.id))
    with pytest.raises(ConsentRevoked):
        await house.records.read(lambda c: check(c, "anna", [made.id], now_ms=2))
    assert await house.store.list("anna/identities") == []
    people = People(house.records, house.store, None, secret=SECRET, stop=house.stop)  # type: ignore[arg-type]
    assert await people.sweep() == 0
    house.stop_fails = None
    assert await people.sweep() == 1
    assert await house.stages(running) == set()
    assert await people.sweep() == 0


async def test_an_enrolment_that_nobody_finished_is_taken_up_or_erased(house: PeopleHouse) -> None:
    asset = await house.asset(portrait())
    house.detector.fails = Unavailable(peer="a model")
    with pytest.raises(Unavailable):
        await house.ask("CreateIdentity", wanted(asset))
    (row,) = await rows(house, identities)
    with pytest.raises(IdentityNotFound):
        await house.ask("GetIdentity", pb.GetIdentityRequest(id=row.id))
    assert not (await house.ask("ListIdentities", pb.ListIdentitiesRequest())).identities
    # What a process leaves behind that dies after the detector has answered.
    await house.store.put_bytes(row.key, b"IDENTITY of nobody")
    people = People(house.records, house.store, None, secret=SECRET, stop=house.stop)  # type: ignore[arg-type]
    assert await people.sweep() == 0
    old = row.created_ms - ABANDONED_MS - 1
    aged = sa.update(identities).values(created_ms=old)
    await house.records.write(lambda c: c.execute(aged))
    with pytest.raises(Unavailable):
        await house.ask("CreateIdentity", wanted(asset))
    assert await people.sweep() == 0, "somebody has taken it up again"
    await house.records.write(lambda c: c.execute(aged))
    assert await people.sweep() == 1
    assert await rows(house, identities) == []
    assert await house.store.list("anna/identities") == []
    house.detector.fails = None
    await house.ask("CreateIdentity", wanted(asset))


async def test_the_door_sweeps_by_itself(tmp_path: Path) -> None:
    async with people_house(tmp_path, sweep_s=0.05) as house:
        made = await enrolled(house)
        now = time.time_ns() // 1_000_000
        await house.records.write(lambda c: c.execute(sa.update(consents).values(revoked_ms=now)))
        for _ in range(200):
            if not await everything(house):
                break
            await asyncio.sleep(0.05)
        assert await everything(house) == []
        assert (await house.ask("GetIdentity", pb.GetIdentityRequest(id=made.id))).identity.HasField("revoke_time")


@pytest.mark.parametrize("method", ["DeleteIdentity", "RevokeConsent"])
async def test_no_byte_of_a_face_is_left_in_the_database_the_folder_or_the_logs(
    method: str, house: PeopleHouse, caplog: pytest.LogCaptureFixture
) -> None:
    canary, texture = "cAnArY-0f-a-PORTRAIT", b"\x93cAnArY\x00TEXTURE\x94"
    caplog.set_level(logging.DEBUG)
    made = await enrolled(house, portrait(canary))
    for state in (JobState.RENDERING, JobState.FAILED):
        await house.job([made.id], state=state, canary=texture)
    done = await house.job([made.id], state=JobState.SUCCEEDED, canary=texture)
    # The result of a job that had ended before is its owner's; only what it was made of goes.
    await house.store.delete_prefix(f"anna/jobs/{done}/finalise")
    await house.store.delete_prefix(f"anna/jobs/{done}/index")
    words = (canary.encode(), texture, b"IDENTITY")
    assert all(found_in(house.folder, word) for word in words)
    request = pb.DeleteIdentityRequest if method == "DeleteIdentity" else pb.RevokeConsentRequest
    await house.ask(method, request(id=made.id))
    for word in words:
        assert found_in(house.folder, word) == []
        assert word.decode("latin-1") not in caplog.text
    assert (house.folder / "records.sqlite").stat().st_size > 0
