"""Who may use which face: every way in which a consent does not hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.errors import (
    ConsentExpired,
    ConsentNotCovering,
    ConsentRequired,
    ConsentRevoked,
    IdentityNotFound,
    MasqueradeError,
)
from services.common.records.database import Records
from services.common.records.tables import audit, consents, identities
from services.orchestrator.consents import FACE_SWAP, Attestation, check, check_inline, resolve, revoke, write
from services.orchestrator.identities.rows import PortraitReport, quality_json

NOW = 1_000_000
ANNA, FACE, JOB = "idn_anna", "aaaa", "job_a"


async def consented(
    records: Records,
    subject: str = ANNA,
    *,
    tenant: str = "t",
    portraits: tuple[str, ...] = (FACE,),
    scopes: tuple[str, ...] = (),
    expires_ms: int | None = None,
) -> str:
    attestation = Attestation("self", "", scopes=scopes, expires_ms=expires_ms)
    return await records.write(
        lambda c: write(
            c,
            tenant=tenant,
            actor="key:k",
            subject=subject,
            attestation=attestation,
            portraits=portraits,
            now_ms=NOW,
        )
    )


async def enrolled(records: Records, consent: str, *, identity: str = ANNA, face: str = FACE, **columns: Any) -> None:
    values = {
        "id": identity,
        "tenant": "t",
        "name": "Anna",
        "request_id": identity,
        "digest": "",
        "key": f"t/identities/{identity}/o",
        "object_digest": "dd",
        "quality": quality_json((PortraitReport(f"asset_{face}", "a.png", 1, 2, 3),)),
        "consent": consent,
        "number": 1,
        "created_ms": NOW,
        **columns,
    }
    await records.write(lambda c: c.execute(identities.insert().values(**values)))


async def ask(records: Records, *faces: str, tenant: str = "t", scope: str = FACE_SWAP, **more: Any) -> None:
    await records.read(lambda c: check(c, tenant, faces or (ANNA,), scope=scope, now_ms=NOW, **more))


async def test_what_was_agreed_to_may_be_used(records: Records) -> None:
    await enrolled(records, await consented(records, expires_ms=NOW + 1))
    await ask(records)
    await ask(records, ANNA, ANNA)
    found = await resolve(records, "t", ANNA)
    assert (found.key, found.digest, found.quality[0].name) == (f"t/identities/{ANNA}/o", "dd", "a.png")


async def test_no_record_is_no_consent(records: Records) -> None:
    await enrolled(records, "cns_none")
    with pytest.raises(ConsentRequired):
        await ask(records)


async def test_a_record_about_another_face_is_no_consent(records: Records) -> None:
    await enrolled(records, await consented(records, "idn_berta"))
    with pytest.raises(ConsentRequired):
        await ask(records)


async def test_a_record_of_another_tenant_is_no_consent(records: Records) -> None:
    await enrolled(records, await consented(records, tenant="u"))
    with pytest.raises(ConsentRequired):
        await ask(records)


async def test_a_face_of_another_tenant_is_not_there(records: Records) -> None:
    await enrolled(records, await consented(records))
    with pytest.raises(IdentityNotFound):
        await ask(records, tenant="u")


async def test_a_face_that_is_not_enrolled_yet_is_not_there(records: Records) -> None:
    await enrolled(records, "", object_digest="")
    with pytest.raises(IdentityNotFound):
        await ask(records)


@pytest.mark.parametrize("end", [NOW, NOW - 1])
async def test_a_consent_that_is_over_does_not_hold(end: int, records: Records) -> None:
    await enrolled(records, await consented(records, expires_ms=end))
    with pytest.raises(ConsentExpired) as caught:
        await ask(records)
    assert caught.value.fields["expired"].startswith("1970-01-01T00:16:")


async def test_a_withdrawn_consent_does_not_hold_whatever_else_is_wrong(records: Records) -> None:
    consent = await consented(records, expires_ms=NOW - 5, scopes=("other",), portraits=())
    await enrolled(records, consent)
    given = {"tenant": "t", "actor": "key:k", "consent": consent, "subject": ANNA, "why": "withdrawn"}
    assert await records.write(lambda c: revoke(c, now_ms=NOW, **given))
    assert not await records.write(lambda c: revoke(c, now_ms=NOW + 9, **given))
    with pytest.raises(ConsentRevoked):
        await ask(records)
    (row,) = await records.read(lambda c: c.execute(sa.select(consents)).all())
    assert row.revoked_ms == NOW


async def test_a_face_that_was_erased_is_withdrawn(records: Records) -> None:
    await enrolled(records, await consented(records), key="", object_digest="")
    with pytest.raises(ConsentRevoked):
        await ask(records)


async def test_a_job_that_runs_sees_a_deleted_face_as_withdrawn(records: Records) -> None:
    with pytest.raises(ConsentRevoked):
        await ask(records, is_running=True)
    with pytest.raises(IdentityNotFound):
        await ask(records)


async def test_another_picture_than_the_one_that_was_agreed_to_is_not_covered(records: Records) -> None:
    await enrolled(records, await consented(records), face="bbbb")
    with pytest.raises(ConsentNotCovering):
        await ask(records)


async def test_another_use_is_not_covered(records: Records) -> None:
    await enrolled(records, await consented(records, scopes=("training",)))
    with pytest.raises(ConsentNotCovering) as caught:
        await ask(records)
    assert caught.value.fields["what"] == FACE_SWAP
    await ask(records, scope="training")


async def test_one_face_without_consent_refuses_all(records: Records) -> None:
    await enrolled(records, await consented(records))
    await enrolled(records, "cns_none", identity="idn_berta", number=2)
    with pytest.raises(ConsentRequired) as caught:
        await ask(records, ANNA, "idn_berta")
    assert caught.value.fields["identity"] == "idn_berta"


async def test_the_log_knows_ids_and_no_words(records: Records) -> None:
    attestation = Attestation("attested", "Carl Person", "she agreed", expires_ms=NOW + 1)
    await records.write(
        lambda c: write(
            c, tenant="t", actor="key:k", subject=ANNA, attestation=attestation, portraits=[FACE], now_ms=NOW
        )
    )
    (line,) = await records.read(lambda c: c.execute(sa.select(audit)).all())
    assert json.loads(line.details)["portraits"] == [FACE]
    assert not {"Carl", "agreed"} & set(line.details.replace('"', " ").split())


INLINE: dict[str, tuple[dict[str, Any] | None, list[str], type[MasqueradeError] | None]] = {
    "holds": ({"portraits": ("aaaa", "bbbb")}, ["aaaa", "bbbb"], None),
    "drawn of nothing": (None, [], None),
    "none": (None, ["aaaa"], ConsentRequired),
    "other tenant": ({"tenant": "u"}, ["aaaa"], ConsentRequired),
    "expired": ({"expires_ms": NOW}, ["aaaa"], ConsentExpired),
    "other face": ({}, ["bbbb"], ConsentNotCovering),
    "one of two": ({}, ["aaaa", "bbbb"], ConsentNotCovering),
    "other use": ({"scopes": ("training",)}, ["aaaa"], ConsentNotCovering),
}


@pytest.mark.parametrize("case", INLINE)
async def test_portraits_given_with_a_job_need_a_record_of_the_job(case: str, records: Records) -> None:
    written, portraits, error = INLINE[case]
    if written is not None:
        await consented(records, JOB, **written)

    async def asked() -> None:
        await records.read(lambda c: check_inline(c, "t", JOB, portraits, now_ms=NOW))

    if error is None:
        await asked()
    else:
        with pytest.raises(error):
            await asked()


async def test_each_inline_face_is_judged_by_its_own_record(records: Records) -> None:
    await consented(records, JOB, portraits=("aaaa",))
    await consented(records, JOB, portraits=("bbbb",), expires_ms=NOW - 1)
    await records.read(lambda c: check_inline(c, "t", JOB, ["aaaa"], now_ms=NOW))
    with pytest.raises(ConsentExpired):
        await records.read(lambda c: check_inline(c, "t", JOB, ["aaaa", "bbbb"], now_ms=NOW))
