"""The records' database: SQLite in one file by default, PostgreSQL in a cluster, the same statements.

Work is given as a function of a connection and done in one transaction, in threads of its own: no event loop waits for
a disk. On SQLite a writing transaction takes the lock at its beginning, so that what was read still holds when it is
written; on PostgreSQL whoever must be alone locks a row or takes an advisory lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from services.common import errors
from services.common.records.tables import METADATA, SCHEMA, SCHEMA_VERSION, counters, versions

T = TypeVar("T")
THREADS: Final = 4
PATIENCE_S: Final = 30.0
"""So long a transaction that could not begin is tried again: a restart of PostgreSQL takes some seconds."""

_PAUSE_S = 0.2


class Records:
    """Rows in a database. `await open()` once, then `read` and `write`, then `close`."""

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        """Address a database; nothing is opened yet.

        Args:
            url: `sqlite:////path/records.sqlite` or `postgresql://user@host/name`.
            patience_s: how long a database that does not answer is waited for.
        """
        self._url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self._patience_s = patience_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="records")
        self._engine: sa.Engine | None = None
        self._opening = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is one file of one machine."""
        return self._url.startswith("sqlite")

    async def open(self) -> None:
        """Connect, and make the tables where there are none. Opening it twice does nothing.

        Raises:
            Unavailable: the database does not answer.
            InvalidSetting: its tables are of a newer version than this software.
        """
        if self._engine is None:
            await self._in_thread(self._open_once)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Do some reading in one transaction.

        It may lock rows: then it waits for who changes them, and sees the change.

        Raises:
            Unavailable: the database does not answer.
        """
        return await self._in_thread(lambda: self._do(work, writes=False))

    async def view(self, work: Callable[[sa.Connection], T]) -> T:
        """Do some reading that sees one moment, however many statements it takes, and locks nothing.

        What `read` sees of PostgreSQL is newer with each statement: a job's row from before its end and its last event
        from after it would make a job that has succeeded without a result.

        Raises:
            Unavailable: the database does not answer.
        """
        return await self._in_thread(lambda: self._do(work, writes=False, sees_one_moment=True))

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do some reading and writing in one transaction; what it raises undoes all of it.

        A transaction that could not begin is tried again for a while. One that broke off is not: whether it was
        written is unknown, and who asked must look.

        Raises:
            Unavailable: the database does not answer, or went away in the middle.
        """
        return await self._in_thread(lambda: self._do(work, writes=True))

    async def close(self) -> None:
        """Let go of the connections."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.dispose)
        await asyncio.to_thread(self._threads.shutdown)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _open_once(self) -> None:
        # Several services of one process open the same records at once: the second would leave the first's connections.
        with self._opening:
            if self._engine is None:
                self._open()

    def _open(self) -> None:
        engine = _sqlite(self._url) if self.is_sqlite else _postgres(self._url)
        with self._connected(engine) as connection, connection.begin():
            if not self.is_sqlite:
                # Replicas that start together would both make the tables.
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('masquerade.records.schema'))"))
                connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            METADATA.create_all(connection)
            known = connection.execute(sa.select(versions.c.version)).scalar()
            if known is None:
                connection.execute(versions.insert().values(version=SCHEMA_VERSION))
            elif known > SCHEMA_VERSION:
                engine.dispose()
                raise errors.InvalidSetting(
                    setting="database",
                    problem=f"its tables are of version {known}, this software knows {SCHEMA_VERSION}",
                    remedy="run the newer version of this software, or name another database",
                )
        self._engine = engine

    def _do(self, work: Callable[[sa.Connection], T], *, writes: bool, sees_one_moment: bool = False) -> T:
        assert self._engine is not None, "records are opened first"
        with self._connected(self._engine) as connection:
            try:
                if sees_one_moment and not self.is_sqlite:
                    # A transaction of SQLite sees one moment anyway.
                    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                with connection.begin():
                    if writes and self.is_sqlite:
                        # pysqlite begins no transaction by itself: this one takes the lock now and not half-way.
                        connection.exec_driver_sql("BEGIN IMMEDIATE")
                    elif self.is_sqlite:
                        connection.exec_driver_sql("BEGIN")
                    return work(connection)
            except exc.OperationalError as error:
                raise errors.Unavailable(peer="the records' database", detail=_plain(error)) from error

    @contextlib.contextmanager
    def _connected(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        until = time.monotonic() + self._patience_s
        while True:
            try:
                connection = engine.connect()
                break
            except exc.OperationalError as error:
                if time.monotonic() >= until:
                    raise errors.Unavailable(peer="the records' database", detail=_plain(error)) from error
                time.sleep(_PAUSE_S)
        try:
            yield connection
        finally:
            connection.close()


def next_number(connection: sa.Connection, name: str) -> int:
    """The next number of a counter, from 1 on; the row is locked until the transaction ends, so none is given twice."""
    counted = connection.execute(
        sa.update(counters).where(counters.c.name == name).values(value=counters.c.value + 1)
    ).rowcount
    if not counted:
        insert = insert_or_ignore(connection, counters)
        connection.execute(insert.values(name=name, value=0))
        connection.execute(sa.update(counters).where(counters.c.name == name).values(value=counters.c.value + 1))
    return int(connection.execute(sa.select(counters.c.value).where(counters.c.name == name)).scalar_one())


def insert_or_ignore(connection: sa.Connection, table: sa.Table) -> Any:
    """An insert that leaves a row alone that is there already."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.postgresql import insert as postgres_insert

    return postgres_insert(table).on_conflict_do_nothing()


def _sqlite(url: str) -> sa.Engine:
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(url, pool_size=THREADS, max_overflow=0, connect_args={"timeout": 30.0})

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        # Transactions are begun by us: see `_do`.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    # SQLite knows no schemas: the same tables stand in the file's own.
    return engine.execution_options(schema_translate_map={SCHEMA: None})


def _postgres(url: str) -> sa.Engine:
    return sa.create_engine(url, pool_size=THREADS, max_overflow=0, pool_pre_ping=True, pool_timeout=30)


def _plain(error: exc.DBAPIError) -> str:
    """The database's own words in one line, without the statement and its values."""
    return " ".join(str(error.orig).split())[:200]
