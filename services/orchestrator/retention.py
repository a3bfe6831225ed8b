"""What has been kept long enough goes: on schedule, by one replica at a time, each sweep a line in the audit log.

Every rule is a number in the settings. A sweep that breaks off has done what it has done; the next one does the rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa

from services.common.audit.chain import Entry
from services.common.audit.log import append, write
from services.common.errors import JobNotFound, JobStateForbids, MasqueradeError
from services.common.records.database import Records, insert_or_ignore
from services.common.records.tables import assets, counters, identities, job_assets, jobs, keys
from services.common.store.objects import ObjectStore
from services.common.store.removal import remover
from services.orchestrator.book import events, moving
from services.orchestrator.book.rows import JobRow, row_of
from services.orchestrator.ending import CONSENT_REASONS, Ending
from services.orchestrator.erasure import Reach
from services.orchestrator.identities.rows import assets_of
from services.orchestrator.jobs import Jobs
from services.orchestrator.progress import JobState

log = logging.getLogger(__name__)

AT_ONCE: Final = 100
"""Rows of one rule in one sweep's look; it looks until there are none."""

ORPHANS_MS: Final = 24 * 3600 * 1000
"""So long an object that no row owns is left alone."""

LOOK_FOR_ORPHANS_MS: Final = 6 * 3600 * 1000
"""Looking for them lists the whole store."""

_ORPHAN: Final = "orphan."
"""What names of counters begin with that say when an orphan was seen first."""

_DAY_MS: Final = 86_400_000
_TURN: Final = "swept_ms"
_BAD_ENDS: Final = (int(JobState.FAILED), int(JobState.CANCELLED))


@dataclass(frozen=True, slots=True)
class Rules:
    """How long what is kept."""

    face_days: float
    abandoned_hours: float
    uploads_days: float
    sweep_s: float


class Retention:
    """Sweeps, from `start` to `stop`."""

    def __init__(self, *, records: Records, store: ObjectStore, jobs: Jobs, ending: Ending, rules: Rules) -> None:
        self._records, self._store, self._jobs, self._ending, self._rules = records, store, jobs, ending, rules
        self._loop: asyncio.Task[None] | None = None
        self._looked_for_orphans_ms = 0

    def start(self) -> None:
        """Begin."""
        self._loop = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """Stop, also in the middle of a sweep."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            # Replicas that started together do not sweep together.
            await asyncio.sleep(self._rules.sweep_s * random.uniform(0.5, 1.0))
            try:
                if await self._records.write(self.takes_turn):
                    await self.sweep()
            except MasqueradeError as error:
                log.warning("a sweep broke off", extra={"fields": {"reason": error.reason, "what": str(error)}})
            except Exception:
                log.exception("a sweep broke off")

    async def sweep(self) -> Counter[str]:
        """Do everything that is due; how much of what."""
        done = Counter[str]()
        done["jobs"] = await self._each(self._expired, self._delete)
        done["faces"] = await self._each(self._faces_due, lambda row: self._ending.erase(row, Reach.SAMPLES))
        done["abandoned"] = await self._each(self._abandoned, lambda row: self._ending.erase(row, Reach.ALL))
        done["assets"] = await self._sweep_assets()
        done["orphans"] = await self._sweep_orphans()
        if done.total():
            log.info("swept", extra={"fields": {name: str(count) for name, count in done.items()}})
            await write(self._records, Entry("", moving.ORCHESTRATOR, "retention.swept", "", details=dict(+done)))
        return done

    async def _each(
        self, due: Callable[[sa.Connection], Sequence[JobRow]], work: Callable[[JobRow], Awaitable[object]]
    ) -> int:
        """Do something with every row that is due; one that fails is left for the next sweep."""
        tried: set[str] = set()
        count = 0
        while rows := [row for row in await self._records.read(due) if row.id not in tried]:
            for row in rows:
                tried.add(row.id)
                try:
                    await work(row)
                    count += 1
                except MasqueradeError as error:
                    log.warning("could not be swept", extra={"job": row.id, "fields": {"reason": error.reason}})
        return count

    async def _delete(self, row: JobRow) -> None:
        try:
            await self._jobs.delete(row.id, tenant=row.tenant, actor=moving.ORCHESTRATOR, why="expired")
        except (JobNotFound, JobStateForbids):
            log.info("a job was deleted or taken up before it was swept", extra={"job": row.id})

    def takes_turn(self, connection: sa.Connection) -> bool:
        """Whether this replica sweeps now: none has since half a pause ago."""
        if connection.dialect.name == "sqlite":
            return True
        now, pause = events.now_ms(), round(self._rules.sweep_s * 500)
        mine = sa.and_(counters.c.name == _TURN, counters.c.value < now - pause)
        if connection.execute(sa.update(counters).where(mine).values(value=now)).rowcount:
            return True
        insert = insert_or_ignore(connection, counters).values(name=_TURN, value=now)
        return connection.execute(insert.returning(counters.c.name)).first() is not None

    def _expired(self, connection: sa.Connection) -> Sequence[JobRow]:
        due = sa.and_(jobs.c.expires_ms < events.now_ms(), jobs.c.state >= int(JobState.SUCCEEDED))
        return _rows(connection, due)

    def _faces_due(self, connection: sa.Connection) -> Sequence[JobRow]:
        """Jobs that succeeded and whose faces were to be kept for a while."""
        before = events.now_ms() - round(self._rules.face_days * _DAY_MS)
        is_made = sa.or_(jobs.c.state == int(JobState.SUCCEEDED), jobs.c.result.is_not(None))
        ended = sa.and_(jobs.c.state >= int(JobState.SUCCEEDED), jobs.c.ended_ms < before)
        return _rows(connection, sa.and_(ended, is_made, jobs.c.erased_ms.is_(None)))

    def _abandoned(self, connection: sa.Connection) -> Sequence[JobRow]:
        """Jobs that failed or were cancelled, and that nobody took up again."""
        before = events.now_ms() - round(self._rules.abandoned_hours * 3_600_000)
        is_late = jobs.c.ended_ms < before
        # Whose consent was withdrawn is erased at its end; where that broke off, it is now.
        is_withdrawn = sa.or_(*(jobs.c.failure.contains(f'"{reason}"') for reason in sorted(CONSENT_REASONS)))
        bad = sa.and_(jobs.c.state.in_(_BAD_ENDS), jobs.c.erased_ms.is_(None))
        return _rows(connection, sa.and_(bad, sa.or_(sa.and_(is_late, jobs.c.result.is_(None)), is_withdrawn)))

    async def _sweep_assets(self) -> int:
        """Assets that nobody used for days, and that no running job and no identity needs."""
        before = events.now_ms() - round(self._rules.uploads_days * _DAY_MS)
        remove = remover(self._store)

        def drop(connection: sa.Connection, asset: str) -> bool:
            # It may have been used, or deleted, since it was looked at.
            unused = sa.and_(assets.c.id == asset, assets.c.used_ms < before)
            row = connection.execute(sa.delete(assets).where(unused).returning(assets.c.tenant, assets.c.key)).first()
            if row is None:
                return False
            remove(row.key)
            append(
                connection, Entry(row.tenant, moving.ORCHESTRATOR, "asset.deleted", asset, details={"why": "unused"})
            )
            return True

        tried: set[str] = set()
        count = 0
        while due := set(await self._records.write(partial(_unused_assets, before=before))) - tried:
            for asset in due:
                try:
                    count += await self._records.write(partial(drop, asset=asset))
                except MasqueradeError as error:
                    log.warning("could not be swept", extra={"fields": {"asset": asset, "reason": error.reason}})
            tried |= due
        return count

    async def _sweep_orphans(self) -> int:
        """Objects of jobs that no row owns, seen so first a day ago: a row is there before its first object.

        The day is for operators: whoever restored a database that is too old can still stop this.
        """
        if events.now_ms() - self._looked_for_orphans_ms < LOOK_FOR_ORPHANS_MS:
            return 0
        self._looked_for_orphans_ms = events.now_ms()
        found = {_ORPHAN + prefix.rstrip("/").rpartition("/")[2]: prefix for prefix in await self._find_orphans()}
        due = await self._records.write(partial(_orphans_due, found=set(found)))
        for name in due:
            await self._store.delete_prefix(found[name])
        return len(due)

    async def _find_orphans(self) -> set[str]:
        found = set()
        for tenant in await self._records.read(_tenants):
            folder = f"{tenant}/jobs/"
            there = {each.key.removeprefix(folder).partition("/")[0] for each in await self._store.list(folder)}
            known = await self._records.read(partial(_known, wanted=there))
            found |= {f"{folder}{job}/" for job in there - known}
        return found


def _rows(connection: sa.Connection, due: sa.ColumnElement[bool]) -> Sequence[JobRow]:
    chosen = sa.select(jobs).where(due).order_by(jobs.c.ended_ms).limit(AT_ONCE)
    return [row_of(row) for row in connection.execute(chosen)]


def _unused_assets(connection: sa.Connection, before: int) -> Sequence[str]:
    """Assets that may go. What an identity needs is put off: looked at again in a while, so that others' turn comes."""
    running = (
        sa.select(job_assets.c.asset)
        .join_from(job_assets, jobs, jobs.c.id == job_assets.c.job)
        .where(jobs.c.state < int(JobState.SUCCEEDED))
    )
    is_due = sa.and_(assets.c.used_ms < before, assets.c.id.not_in(running))
    while due := connection.execute(sa.select(assets.c.id, assets.c.tenant).where(is_due).limit(AT_ONCE)).all():
        tenants = {row.tenant for row in due}
        qualities = sa.select(identities.c.quality).where(identities.c.tenant.in_(tenants), identities.c.key != "")
        needed = {asset for quality in connection.execute(qualities).scalars() for asset in assets_of(quality)}
        needed &= {row.id for row in due}
        if needed:
            put_off = sa.update(assets).where(assets.c.id.in_(needed))
            connection.execute(put_off.values(used_ms=events.now_ms()))
        if len(needed) < len(due):
            return [row.id for row in due if row.id not in needed]
    return []


def _tenants(connection: sa.Connection) -> list[str]:
    """Those who have, or had, anything here."""
    tables = (jobs, assets, identities, keys)
    found = connection.execute(sa.union(*(sa.select(table.c.tenant) for table in tables))).scalars()
    return sorted({"local", *found})


def _orphans_due(connection: sa.Connection, found: set[str]) -> list[str]:
    """Remember when each orphan was seen first; those that were long enough ago."""
    seen: dict[str, int] = {
        row.name: row.value
        for row in connection.execute(sa.select(counters).where(counters.c.name.startswith(_ORPHAN, autoescape=True)))
    }
    now = events.now_ms()
    due = sorted(name for name in found if seen.get(name, now) <= now - ORPHANS_MS)
    gone = [name for name in seen if name not in found] + due
    for begin in range(0, len(gone), 500):
        connection.execute(sa.delete(counters).where(counters.c.name.in_(gone[begin : begin + 500])))
    for name in sorted(found - seen.keys()):
        connection.execute(insert_or_ignore(connection, counters).values(name=name, value=now))
    return due


def _known(connection: sa.Connection, wanted: set[str]) -> set[str]:
    names = sorted(wanted)
    found: set[str] = set()
    for begin in range(0, len(names), 500):
        batch = names[begin : begin + 500]
        found |= set(connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(batch))).scalars())
    return found
