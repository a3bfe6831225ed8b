"""A job comes into the book: once for each request, with all that must be remembered of it, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from services.common.audit.chain import Entry, canonical
from services.common.audit.log import append
from services.common.errors import AssetNotFound, QuotaExceeded, RequestIdReused
from services.common.records.database import insert_or_ignore, next_number
from services.common.records.tables import assets, job_assets, job_identities, jobs, publications, uploads
from services.orchestrator import consents
from services.orchestrator.book import events, rows
from services.orchestrator.book.rows import JobRow
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.keys import job_id, json_digest
from services.orchestrator.progress import JobState, Snapshot

RETRY_AFTER_S = 30
"""After which a tenant whose queue is full may ask again: jobs take minutes."""


@dataclass(frozen=True, slots=True)
class InlineConsent:
    """What was said about portraits that were given with the job."""

    attestation: consents.Attestation
    portraits: tuple[str, ...]
    """Keyed digests of the pictures."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it is asked for."""

    tenant: str
    actor: str
    request_id: str
    asked: JsonObject
    """The spec in the caller's words."""

    spec: JsonObject
    """The spec as the engine takes it: ids resolved to keys."""

    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 5
    rerender_of: str = ""
    assets: Sequence[str] = ()
    """Ids of the assets that it uses."""

    identities: Sequence[str] = ()
    """Ids of the enrolled identities that it uses."""

    inline: Sequence[InlineConsent] = ()
    is_metered: bool = False
    """It comes from outside: the tenant's stored bytes are limited, and what it uses has rows."""

    places: Sequence[tuple[str, str]] = ()
    """Second places for the result: the place's name and the file's."""

    @property
    def id(self) -> str:
        """The same for the same request of the same tenant."""
        return job_id(tenant=self.tenant, request=self.request_id)

    @property
    def digest(self) -> str:
        """Of what the caller asked for, whatever ids have been resolved to."""
        return digest_of(self.asked, self.rerender_of)


def digest_of(asked: JsonObject, rerender_of: str = "") -> str:
    """Digest of a request: the same request id with another digest is refused."""
    return json_digest({"spec": asked, "rerender_of": rerender_of})


def known(connection: sa.Connection, *, tenant: str, request_id: str, digest: str) -> JobRow | None:
    """The job that a request made before, or None.

    Raises:
        RequestIdReused: the id stands for another request.
    """
    found = rows.find(connection, job_id(tenant=tenant, request=request_id))
    if found is not None and found.digest != digest:
        raise RequestIdReused(request_id=request_id, job=found.id)
    return found


def create(
    connection: sa.Connection, new: NewJob, *, most_waiting: int, most_bytes: int | None = None
) -> tuple[JobRow, bool]:
    """Write a job down, or answer the one that the same request made before.

    Args:
        connection: of a writing transaction.
        new: the job.
        most_waiting: jobs of a tenant that may wait to begin.
        most_bytes: that a tenant may store; None for no limit.

    Returns:
        The job, and whether it is new.

    Raises:
        RequestIdReused: the id stands for another request.
        QuotaExceeded: too many jobs of the tenant wait, or it stores too much.
        AssetNotFound: an asset was deleted since the job was looked at.
        IdentityNotFound, ConsentRequired, ConsentRevoked, ConsentExpired, ConsentNotCovering: a face may not be used.
    """
    before = known(connection, tenant=new.tenant, request_id=new.request_id, digest=new.digest)
    if before is not None:
        return before, False
    now = events.now_ms()
    check_waiting(connection, new.tenant, most=most_waiting)
    if new.is_metered and most_bytes is not None:
        check_stored(connection, new.tenant, most=most_bytes)
    consents.check(connection, new.tenant, new.identities, now_ms=now)
    if not _insert(connection, new, now):
        # Another replica was faster with the same request.
        before = known(connection, tenant=new.tenant, request_id=new.request_id, digest=new.digest)
        assert before is not None, "the row that was in the way is there"
        return before, False
    events.add(connection, new.id, Snapshot(JobState.QUEUED, time_ms=now))
    _insert_uses(connection, new, now)
    for each in new.inline:
        consents.write(
            connection,
            tenant=new.tenant,
            actor=new.actor,
            subject=new.id,
            attestation=each.attestation,
            portraits=each.portraits,
            now_ms=now,
        )
    portraits = {portrait for each in new.inline for portrait in each.portraits}
    consents.check_inline(connection, new.tenant, new.id, portraits, now_ms=now)
    details = {"digest": new.digest, "identities": list(new.identities), "assets": list(new.assets)}
    details |= {"rerender_of": new.rerender_of} if new.rerender_of else {}
    append(connection, Entry(new.tenant, new.actor, "job.created", new.id, details=details))
    return rows.one(connection, new.id), True


def check_waiting(connection: sa.Connection, tenant: str, *, most: int) -> None:
    """Raise QuotaExceeded where too many jobs of the tenant wait to begin."""
    waiting = connection.execute(
        sa.select(sa.func.count())
        .select_from(jobs)
        .where(jobs.c.state == int(JobState.QUEUED), jobs.c.tenant == tenant)
    ).scalar_one()
    if waiting >= most:
        raise QuotaExceeded(limit="waiting jobs", value=waiting, most=most, retry_after_s=RETRY_AFTER_S)


def check_stored(connection: sa.Connection, tenant: str, *, most: int) -> None:
    """Raise QuotaExceeded where a tenant stores as much as it may: assets, what is being uploaded, and jobs."""
    unfinished = sa.and_(uploads.c.tenant == tenant, uploads.c.asset.is_(None))
    parts = (
        sa.select(sa.func.sum(assets.c.size_bytes)).where(assets.c.tenant == tenant),
        sa.select(sa.func.sum(uploads.c.confirmed_bytes)).where(unfinished),
        sa.select(sa.func.sum(jobs.c.stored_bytes)).where(jobs.c.tenant == tenant),
    )
    stored = sum(int(connection.execute(part).scalar() or 0) for part in parts)
    if stored >= most:
        raise QuotaExceeded(limit="stored bytes", value=stored, most=most, retry_after_s=RETRY_AFTER_S)


def _insert(connection: sa.Connection, new: NewJob, now: int) -> bool:
    insert = insert_or_ignore(connection, jobs).values(
        id=new.id,
        tenant=new.tenant,
        request_id=new.request_id,
        digest=new.digest,
        asked=json.dumps(new.asked),
        spec=json.dumps(new.spec),
        # In the one spelling in which lists search them.
        labels=canonical(dict(new.labels)),
        state=int(JobState.QUEUED),
        attempt=0,
        priority=new.priority,
        number=next_number(connection, "jobs"),
        is_admitted=False,
        rerender_of=new.rerender_of,
        stored_bytes=0,
        created_ms=now,
        changed_ms=now,
    )
    # Not its rowcount: on PostgreSQL an insert tells none.
    return connection.execute(insert.returning(jobs.c.id)).first() is not None


def _insert_uses(connection: sa.Connection, new: NewJob, now: int) -> None:
    if new.assets:
        uses = [{"job": new.id, "asset": asset} for asset in sorted(set(new.assets))]
        connection.execute(insert_or_ignore(connection, job_assets), uses)
    if new.identities:
        faces = [{"job": new.id, "identity": identity} for identity in sorted(set(new.identities))]
        connection.execute(insert_or_ignore(connection, job_identities), faces)
    if new.places:
        places = [
            {"job": new.id, "position": position, "place": place, "name": name}
            for position, (place, name) in enumerate(new.places)
        ]
        connection.execute(insert_or_ignore(connection, publications), places)
    there = touch_assets(connection, new.tenant, new.assets, now)
    for asset in new.assets if new.is_metered else ():
        if asset not in there:
            raise AssetNotFound(asset=asset)


def touch_assets(connection: sa.Connection, tenant: str, used: Sequence[str], now: int) -> set[str]:
    """Say that assets were used, so that they are not swept for a while; those that are there."""
    if not used:
        return set()
    chosen = sa.and_(assets.c.tenant == tenant, assets.c.id.in_(sorted(set(used))))
    return set(connection.execute(sa.update(assets).where(chosen).values(used_ms=now).returning(assets.c.id)).scalars())
