"""A job as it is asked for becomes a job as the book and the engine take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from masquerade.v1 import job_pb2 as pb
from services.common.access.callers import Caller
from services.common.errors import AssetNotFound, IdentityNotFound, InvalidSpec
from services.common.records.database import Records
from services.common.records.tables import assets
from services.orchestrator import asking, convert
from services.orchestrator.book.creating import digest_of

ANNA = Caller("anna", "key:anna")


@pytest_asyncio.fixture
async def records(tmp_path: Path) -> AsyncIterator[Records]:
    """With one asset of anna's and one of bob's."""
    opened = Records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    await opened.open()

    def write(connection: sa.Connection) -> None:
        for number, tenant in enumerate(("anna", "bob")):
            row = {"id": f"asset_{tenant}", "tenant": tenant, "key": f"{tenant}/assets/{tenant}", "name": "v.mp4"}
            row |= {"size_bytes": 1, "digest": "", "number": number, "created_ms": 1, "used_ms": 1}
            connection.execute(assets.insert().values(**row))

    await opened.write(write)
    yield opened
    await opened.close()


async def asked(records: Records, value: dict[str, Any]) -> Any:
    return await asking.public(records, value, caller=ANNA, request_id="r")


async def test_ids_become_keys_and_the_callers_words_stay(records: Records) -> None:
    value = {"asset_id": "asset_anna", "background": {"kind": 2, "asset_id": "asset_anna"}, "labels": {"a": "b"}}
    job, spec = await asked(records, value)
    assert (spec.asset_key, spec.background.asset_key) == ("anna/assets/anna", "anna/assets/anna")
    assert job.asked == value
    assert job.digest == digest_of(value)
    assert (list(job.assets), job.is_metered, dict(job.labels)) == (["asset_anna"], True, {"a": "b"})


async def test_what_belongs_to_another_tenant_is_not_found(records: Records) -> None:
    with pytest.raises(AssetNotFound):
        await asked(records, {"asset_id": "asset_bob"})
    with pytest.raises(IdentityNotFound):
        await asked(records, {"asset_id": "asset_anna", "identities": [{"name": "f", "identity_id": "idn_bob"}]})


def test_a_portrait_that_comes_with_a_job_brings_its_consent_with_its_end() -> None:
    spec = pb.JobSpec(asset_key="anna/assets/v")
    face = spec.identities.add(name="f", portrait_keys=["anna/assets/p"])
    face.consent.method = pb.CONSENT_METHOD_ATTESTED
    face.consent.statement = "she agreed"
    face.consent.attested_by = "bob"
    face.consent.expire_time.FromMilliseconds(1_700_000_000_123)
    job = asking.inner(convert.spec_json(spec), tenant="anna", request_id="r")
    (inline,) = job.inline
    assert inline.portraits == ("p",)
    said = inline.attestation
    assert (said.method, said.attested_by, said.expires_ms) == ("attested", "bob", 1_700_000_000_123)
    assert sorted(job.assets) == ["asset_p", "asset_v"]
    assert convert.from_json(job.asked, pb.JobSpec) == spec


def test_a_time_that_is_none_is_refused() -> None:
    spec = pb.JobSpec(asset_key="anna/assets/v")
    spec.identities.add(name="f").consent.expire_time.seconds = 1 << 60
    with pytest.raises(InvalidSpec):
        convert.spec_json(spec)


def test_an_option_that_is_explicit_is_another_request_than_one_that_is_unset() -> None:
    bare, said = pb.JobSpec(asset_key="v"), pb.JobSpec(asset_key="v", priority=5)
    assert digest_of(convert.spec_json(bare)) != digest_of(convert.spec_json(said))
