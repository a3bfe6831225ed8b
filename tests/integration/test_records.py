"""What one transaction on the records sees while another one writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from services.common.records.database import Records, next_number
from services.common.records.tables import counters
from tests.support.postgres import PostgresServer, requires_postgres


@pytest.fixture
async def in_postgres(postgres: PostgresServer) -> AsyncIterator[Records]:
    records = Records(postgres.new_database())
    await records.open()
    yield records
    await records.close()


async def seen(records: Records) -> list[int]:
    """A counter before and after somebody else counts on, in one view."""
    loop = asyncio.get_running_loop()
    await records.write(lambda connection: next_number(connection, "test"))

    def work(connection: sa.Connection) -> list[int]:
        chosen = sa.select(counters.c.value).where(counters.c.name == "test")
        before = connection.execute(chosen).scalar_one()
        other = records.write(lambda beside: next_number(beside, "test"))
        assert asyncio.run_coroutine_threadsafe(other, loop).result(20) == 2
        return [before, connection.execute(chosen).scalar_one()]

    return await records.view(work)


async def test_a_view_of_a_file_sees_one_moment(records: Records) -> None:
    assert await seen(records) == [1, 1]


@requires_postgres
async def test_a_view_of_postgres_sees_one_moment(in_postgres: Records) -> None:
    assert await seen(in_postgres) == [1, 1]


@requires_postgres
async def test_a_view_leaves_the_connection_as_it_was(in_postgres: Records) -> None:
    how = sa.text("SELECT current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')")

    def work(connection: sa.Connection) -> str:
        return str(connection.execute(how).scalar_one())

    assert await in_postgres.view(work) == "repeatable read on"
    for _ in range(8):
        assert await in_postgres.write(work) == "read committed off"
