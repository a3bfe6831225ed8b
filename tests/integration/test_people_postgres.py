"""Identities, consents and the audit log on PostgreSQL, where several replicas write at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from masquerade.v1 import identity_pb2 as pb
from masquerade.v1 import job_pb2
from services.common.audit.anchor import head
from services.common.audit.chain import Entry
from services.common.audit.log import write
from services.common.audit.verify import verify
from services.common.errors import ConsentRevoked, RequestIdReused
from services.common.records.database import Records
from services.common.records.tables import consents, identities, job_identities, jobs
from services.orchestrator.consents import check
from services.orchestrator.progress import JobState
from services.standalone.cli.main import app
from tests.support.people_house import PeopleHouse, people_house, portrait
from tests.support.postgres import PostgresServer, requires_postgres

pytestmark = requires_postgres


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
async def replicas(database: str, tmp_path: Path) -> AsyncIterator[list[PeopleHouse]]:
    """Two doors over one database and one store."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(people_house(tmp_path, database=database)) for _ in range(2)]


def wanted(*assets: str, name: str = "Anna") -> pb.CreateIdentityRequest:
    consent = job_pb2.Consent(method=job_pb2.CONSENT_METHOD_SELF)
    return pb.CreateIdentityRequest(name=name, asset_ids=assets, consent=consent, request_id="r")


async def test_many_writers_make_one_chain_without_a_gap(database: str) -> None:
    each_of, writers = 25, 8
    several = [Records(database) for _ in range(writers)]
    await asyncio.gather(*(records.open() for records in several))

    async def fill(number: int) -> None:
        for n in range(each_of):
            await write(several[number], Entry("t", f"writer:{number}", "job.state", str(n)))

    await asyncio.gather(*(fill(number) for number in range(writers)))
    found = await verify(several[0], rows=64)
    assert (found.entries, found.broken) == (writers * each_of, None)
    for records in several:
        await records.close()


async def test_the_first_wrong_entry_is_named(database: str, postgres: PostgresServer) -> None:
    records = Records(database)
    await records.open()
    for number in range(6):
        await write(records, Entry("t", "a", "job.state", str(number)))
    ends = await head(records)
    assert ends is not None
    name = database.rpartition("/")[2]
    postgres.execute(name, "DELETE FROM masquerade.audit WHERE sequence = 6")
    broken = (await verify(records, [ends])).broken
    assert broken is not None
    assert broken.sequence == 6
    postgres.execute(name, "UPDATE masquerade.audit SET actor = 'b' WHERE sequence = 4")
    broken = (await verify(records)).broken
    assert broken is not None
    assert broken.sequence == 4
    await records.close()


def test_the_command_verifies_it_too(database: str) -> None:
    async def fill() -> None:
        records = Records(database)
        await records.open()
        await write(records, Entry("t", "a", "job.state", "1"))
        await records.close()

    asyncio.run(fill())
    told = CliRunner().invoke(app, ["audit", "verify", "--database", database])
    assert told.exit_code == 0
    assert told.stdout.startswith("1 entries")


async def test_twins_at_two_doors_make_one_identity(replicas: list[PeopleHouse]) -> None:
    asset = await replicas[0].asset(portrait())
    asked = (house.ask("CreateIdentity", wanted(asset)) for house in replicas * 4)
    answers = await asyncio.gather(*asked)
    assert len({answer.identity.id for answer in answers}) == 1
    for table in (identities, consents):
        rows = await replicas[0].records.read(lambda c, table=table: c.execute(sa.select(table)).all())
        assert len(rows) == 1
    assert (await verify(replicas[0].records)).broken is None


async def test_other_contents_at_two_doors_make_one_identity_and_no_orphan(replicas: list[PeopleHouse]) -> None:
    assets = [await replicas[0].asset(portrait()) for _ in range(8)]
    asked = (house.ask("CreateIdentity", wanted(asset)) for house, asset in zip(replicas * 4, assets, strict=True))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, RequestIdReused) for answer in answers) == 7
    assert len(await replicas[0].store.list("anna/identities")) == 1


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.02, 0.03, 0.04, 0.2])
async def test_a_job_made_while_somebody_withdraws_is_refused_or_stopped(
    delay_s: float, replicas: list[PeopleHouse]
) -> None:
    """No job slips through between the look at the consent and its row."""
    house, other = replicas
    identity = (await house.ask("CreateIdentity", wanted(await house.asset(portrait())))).identity.id
    job = "job_a"

    def make(connection: sa.Connection) -> None:
        check(connection, "anna", [identity], now_ms=2)
        time.sleep(0.05)
        values = {"id": job, "tenant": "anna", "request_id": job, "digest": "", "asked": "{}", "spec": "{}"}
        numbers = {"state": int(JobState.QUEUED), "number": 1, "created_ms": 1, "changed_ms": 1}
        connection.execute(jobs.insert().values(**values, **numbers))
        connection.execute(job_identities.insert().values(job=job, identity=identity))

    async def withdraw() -> None:
        await asyncio.sleep(delay_s)
        await house.ask("RevokeConsent", pb.RevokeConsentRequest(id=identity))

    made, _ = await asyncio.gather(other.records.write(make), withdraw(), return_exceptions=True)
    assert made is None or isinstance(made, ConsentRevoked)
    assert [stopped for _, stopped, _ in house.stopped] == ([job] if made is None else [])
