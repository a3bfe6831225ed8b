"""Erasing faces: what of a job and of an identity shows a face, and how it goes.

Everything here can be done again at any time: what is gone already is no error, and what a crash left half-done is
finished by the next call. Rows hold no pictures and no embeddings, only keys and digests, so that a face is gone when
its objects are.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

import sqlalchemy as sa

from services.common.audit.chain import Entry
from services.common.audit.log import append
from services.common.records.database import Records
from services.common.records.tables import assets, consents, identities, job_identities, jobs, uploads
from services.common.store.objects import ObjectStore
from services.orchestrator.identities.rows import ASSET, assets_of
from services.orchestrator.keys import job_prefix
from services.orchestrator.progress import JobState

FINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Reach(Enum):
    """How much of a job shows a face, by the folders of its stages."""

    SAMPLES = ("analyse", "identity")
    """Pictures of faces that analysing and enrolling kept: gone when the job has ended. The Timeline stays: it is what
    a Rerender needs."""

    FACES = ("analyse", "identity", "link", "render", "assemble")
    """Also landmarks and learned textures, and all that was painted on the way: for a job that is done, and of which
    the result alone may stay."""

    ALL = ()
    """The whole job: for one that ends without a result because somebody withdrew."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What went."""

    objects: int
    assets: int = 0


async def erase_face_data(
    store: ObjectStore, records: Records, tenant: str, job: str, *, reach: Reach = Reach.SAMPLES, actor: str = "local"
) -> Erased:
    """Erase the faces of a job, and the portraits that were given for it alone.

    Nothing of the job runs any more: a worker that still writes would put a face back.

    Args:
        store: where objects lie.
        records: the rows.
        tenant: whose job it is.
        job: its id.
        reach: how much of it.
        actor: who is named in the audit log for assets that go with it.
    """
    prefix = job_prefix(tenant=tenant, job=job)
    folders = [f"{prefix}{stage}" for stage in reach.value] or [prefix]
    count = 0
    for folder in folders:
        count += await store.delete_prefix(folder)
    given = await records.read(lambda connection: _given_portraits(connection, tenant, job))
    gone = await erase_assets(store, records, tenant, given, actor=actor, but_of=job)
    return Erased(count, gone)


async def erase_identity(store: ObjectStore, records: Records, tenant: str, identity: str, *, actor: str) -> Erased:
    """Erase the object of an identity, and its portraits unless another identity is made of them.

    The jobs that used it are erased one by one, once they have stopped: see `jobs_using` and `erase_face_data`.

    Args:
        store: where objects lie.
        records: the rows.
        tenant: whose it is.
        identity: its id.
        actor: who is named in the audit log.
    """
    count = await store.delete_prefix(identity_prefix(tenant=tenant, identity=identity))
    quality = await records.read(
        lambda connection: connection.execute(
            sa.select(identities.c.quality).where(identities.c.tenant == tenant, identities.c.id == identity)
        ).scalar()
    )
    made_of = assets_of(quality) if quality else frozenset()
    gone = await erase_assets(store, records, tenant, made_of, actor=actor, but_of=identity)
    return Erased(count, gone)


async def erase_assets(
    store: ObjectStore, records: Records, tenant: str, asset_ids: Collection[str], *, actor: str, but_of: str
) -> int:
    """Erase assets that nobody but `but_of` (an identity or a job) has a face of; gives how many went.

    Rows go first: a caller who uploads the same picture meanwhile then finds it missing and uploads it once more,
    instead of a picture staying that no row owns.
    """
    keys = {asset: asset_key(tenant=tenant, asset=asset) for asset in sorted(asset_ids)}
    # Those of a command on a laptop have no rows.
    stored = {asset for asset, key in keys.items() if await store.stat(key) is not None}
    gone = await records.write(
        lambda connection: _drop_assets(connection, tenant, keys, stored=stored, actor=actor, but_of=but_of)
    )
    for asset in gone:
        await store.delete(keys[asset])
    return len(gone)


def jobs_using(connection: sa.Connection, tenant: str, identity: str) -> list[tuple[str, JobState]]:
    """Jobs that use or used an identity, and how far they are."""
    found = connection.execute(
        sa.select(jobs.c.id, jobs.c.state)
        .join_from(job_identities, jobs, jobs.c.id == job_identities.c.job)
        .where(job_identities.c.identity == identity, jobs.c.tenant == tenant)
        .order_by(jobs.c.number)
    )
    return [(row.id, JobState(row.state)) for row in found]


def identity_prefix(*, tenant: str, identity: str) -> str:
    """Where all that belongs to one identity lies, and is erased with it."""
    return f"{tenant}/identities/{identity}/"


def asset_key(*, tenant: str, asset: str) -> str:
    """Key of an asset, by its id."""
    return f"{tenant}/assets/{asset.removeprefix(ASSET)}"


def _given_portraits(connection: sa.Connection, tenant: str, job: str) -> list[str]:
    """Assets named by the consent records of a job: its inline portraits."""
    rows = connection.execute(
        sa.select(consents.c.portraits).where(consents.c.tenant == tenant, consents.c.subject == job)
    )
    return sorted({f"{ASSET}{digest}" for row in rows for digest in json.loads(row.portraits)})


def _drop_assets(
    connection: sa.Connection,
    tenant: str,
    asset_ids: Collection[str],
    *,
    stored: Collection[str],
    actor: str,
    but_of: str,
) -> list[str]:
    gone = []
    for asset in asset_ids:
        if _is_used(connection, tenant, asset, but_of):
            continue
        connection.execute(sa.delete(uploads).where(uploads.c.tenant == tenant, uploads.c.asset == asset))
        had_row = connection.execute(sa.delete(assets).where(assets.c.tenant == tenant, assets.c.id == asset)).rowcount
        if had_row or asset in stored:
            gone.append(asset)
    for asset in gone:
        append(connection, Entry(tenant, actor, "asset.deleted", asset, details={"with": but_of}))
    return gone


def _is_used(connection: sa.Connection, tenant: str, asset: str, but_of: str) -> bool:
    """Whether somebody else has the same picture by a consent of their own."""
    by_identity = (
        sa.select(identities.c.id)
        .join_from(identities, consents, consents.c.id == identities.c.consent, isouter=True)
        .where(identities.c.tenant == tenant, identities.c.id != but_of, identities.c.key != "")
        .where(consents.c.revoked_ms.is_(None), identities.c.quality.contains(asset, autoescape=True))
    )
    by_job = (
        sa.select(consents.c.id)
        .join_from(consents, jobs, jobs.c.id == consents.c.subject)
        .where(consents.c.tenant == tenant, consents.c.subject != but_of, jobs.c.state.not_in(FINAL))
        .where(consents.c.revoked_ms.is_(None))
        .where(consents.c.portraits.contains(asset.removeprefix(ASSET), autoescape=True))
    )
    return any(connection.execute(asked.limit(1)).first() is not None for asked in (by_identity, by_job))
