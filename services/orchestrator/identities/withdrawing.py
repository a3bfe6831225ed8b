"""Withdrawing a face: the consent first, in the books; then everything that shows the face; at last the row says so.

From the first step on no new job may use it and none that runs may publish. What a crash interrupts after it is
finished by the sweep, because the row still owns what is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from services.common.access.callers import Caller
from services.common.audit.chain import Entry
from services.common.audit.log import append
from services.common.errors import ConsentRevoked, IdentityNotFound, MasqueradeError
from services.common.records.database import Records
from services.common.records.tables import consents, identities
from services.common.store.objects import ObjectStore
from services.orchestrator import consents as book
from services.orchestrator.erasure import (
    FINAL,
    Reach,
    erase_face_data,
    erase_identity,
    identity_prefix,
    jobs_using,
)
from services.orchestrator.identities.rows import is_pending, one
from services.orchestrator.progress import JobState

log = logging.getLogger(__name__)

Stop: TypeAlias = Callable[[str, str, MasqueradeError], Awaitable[None]]
"""Ends a job of a tenant as failed with an error, and answers when nothing of it runs or writes any more. A job that
has ended stays as it is. Arguments: tenant, job, error. It bounds its own waiting, and raises when that is over."""

ABANDONED_MS: Final = 3600 * 1000
"""A row whose portraits are still being enrolled after an hour belongs to a process that died."""

SWEEPER: Final = "sweep"
"""Who answers in the audit log for what a sweep finishes."""

_JOBS_AT_ONCE = 8


class Withdrawing:
    """Revokes consents, deletes identities, and finishes what was interrupted."""

    def __init__(self, records: Records, store: ObjectStore, *, stop: Stop, clock: Callable[[], int]) -> None:
        """Args:
        records: the rows.
        store: where objects lie.
        stop: ends a job that uses a withdrawn face.
        clock: Unix time in ms.
        """
        self._records, self._store, self._stop, self._clock = records, store, stop, clock

    async def revoke(self, identity: str, caller: Caller) -> Any:
        """Withdraw the consent and erase the face; the row stays, and says when. Twice is no error.

        Raises:
            IdentityNotFound: there is none of this tenant.
            MasqueradeError: a job could not be stopped; the consent is withdrawn all the same, and the rest is tried
                again by the next call or the sweep.
        """
        await self._mark(identity, caller, why="withdrawn")
        await self._erase(caller.tenant, identity, actor=caller.actor)
        return await self._records.write(lambda connection: self._erased(connection, caller.tenant, identity))

    async def delete(self, identity: str, caller: Caller) -> None:
        """The same, and the row goes too. The record of the consent stays: it says why the face was used once.

        Raises:
            IdentityNotFound: there is none of this tenant.
            MasqueradeError: as `revoke`.
        """
        await self._mark(identity, caller, why="deleted")
        await self._erase(caller.tenant, identity, actor=caller.actor)
        await self._records.write(lambda connection: self._deleted(connection, identity, caller))

    async def sweep(self) -> int:
        """Finish what was interrupted, of all tenants; gives how many identities that were.

        Any number of replicas may sweep at once. What fails is logged, and tried again by the next sweep.
        """
        count = 0
        for tenant, identity in await self._records.read(self._left):
            try:
                await self._erase(tenant, identity, actor=SWEEPER)
                await self._records.write(partial(self._erased, tenant=tenant, identity=identity))
                count += 1
            except MasqueradeError as error:
                log.warning("a withdrawn identity is not erased yet", extra={"fields": {"reason": error.reason}})
        for tenant, identity in await self._records.read(self._abandoned):
            await self._store.delete_prefix(identity_prefix(tenant=tenant, identity=identity))
            await self._records.write(partial(self._forget, identity=identity))
            count += 1
        return count

    async def _mark(self, identity: str, caller: Caller, *, why: str) -> None:
        def mark(connection: sa.Connection) -> None:
            row = one(connection, caller.tenant, identity)
            if row is None:
                raise IdentityNotFound(identity=identity)
            book.revoke(
                connection,
                tenant=caller.tenant,
                actor=caller.actor,
                consent=row.consent,
                subject=identity,
                now_ms=self._clock(),
                why=why,
            )

        await self._records.write(mark)

    async def _erase(self, tenant: str, identity: str, *, actor: str) -> None:
        """Stop what uses the face, erase the face, then all that was made with it.

        A job that does not stop saves neither the face nor the other jobs' data; it is told of at the end.
        """
        running = [job for job, state in await self._jobs(tenant, identity) if state not in FINAL]
        revoked = ConsentRevoked(identity=identity)
        failed = await _each(running, lambda job: self._stop(tenant, job, revoked))
        await erase_identity(self._store, self._records, tenant, identity, actor=actor)
        # Looked at again: one may have succeeded while it was told to stop.
        stopped = {job: state for job, state in await self._jobs(tenant, identity) if job not in failed}

        async def erase(job: str) -> None:
            reach = Reach.FACES if stopped[job] is JobState.SUCCEEDED else Reach.ALL
            await erase_face_data(self._store, self._records, tenant, job, reach=reach, actor=actor)

        failed |= await _each(list(stopped), erase)
        for error in failed.values():
            raise error

    async def _jobs(self, tenant: str, identity: str) -> list[tuple[str, JobState]]:
        return await self._records.read(lambda connection: jobs_using(connection, tenant, identity))

    def _erased(self, connection: sa.Connection, tenant: str, identity: str) -> Any:
        mine = sa.and_(identities.c.tenant == tenant, identities.c.id == identity)
        connection.execute(sa.update(identities).where(mine).values(key="", object_digest=""))
        row = one(connection, tenant, identity)
        if row is None:
            raise IdentityNotFound(identity=identity)
        return row

    def _deleted(self, connection: sa.Connection, identity: str, caller: Caller) -> None:
        mine = sa.and_(identities.c.tenant == caller.tenant, identities.c.id == identity)
        if connection.execute(sa.delete(identities).where(mine)).rowcount:
            append(connection, Entry(caller.tenant, caller.actor, "identity.deleted", identity))

    def _left(self, connection: sa.Connection) -> list[tuple[str, str]]:
        """Withdrawn, and not erased."""
        rows = connection.execute(
            sa.select(identities.c.tenant, identities.c.id)
            .join_from(identities, consents, consents.c.id == identities.c.consent)
            .where(identities.c.key != "", consents.c.revoked_ms.is_not(None))
        )
        return [(row.tenant, row.id) for row in rows]

    def _abandoned(self, connection: sa.Connection) -> list[tuple[str, str]]:
        rows = connection.execute(sa.select(identities.c.tenant, identities.c.id).where(self._is_abandoned()))
        return [(row.tenant, row.id) for row in rows]

    def _forget(self, connection: sa.Connection, identity: str) -> None:
        connection.execute(sa.delete(identities).where(identities.c.id == identity, self._is_abandoned()))

    def _is_abandoned(self) -> sa.ColumnElement[bool]:
        """Still being enrolled, long after it began."""
        return sa.and_(is_pending(), identities.c.created_ms < self._clock() - ABANDONED_MS)


async def _each(jobs: Sequence[str], work: Callable[[str], Awaitable[None]]) -> dict[str, BaseException]:
    """Do something with all jobs, some at a time; gives the errors of those with which it failed."""
    free = asyncio.Semaphore(_JOBS_AT_ONCE)

    async def one_job(job: str) -> None:
        async with free:
            await work(job)

    ended = await asyncio.gather(*map(one_job, jobs), return_exceptions=True)
    return {job: error for job, error in zip(jobs, ended, strict=True) if error is not None}
