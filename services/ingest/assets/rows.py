"""Rows of assets and uploads: one statement each, all of them naming the tenant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.common.records.database import insert_or_ignore, next_number
from services.common.records.tables import assets, identities, job_assets, jobs, keys, uploads


@dataclass(frozen=True, slots=True)
class Asset:
    """A stored input. Times are Unix milliseconds."""

    id: str
    tenant: str
    key: str
    name: str
    size_bytes: int
    digest: str
    """SHA-256, 64 hexadecimal digits."""
    number: int
    """Grows with each asset."""
    created_ms: int
    used_ms: int
    """Last upload or last job that used it."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload as its row knows it."""

    tenant: str
    upload_id: str
    name: str
    size_bytes: int
    confirmed_bytes: int
    asset: str | None
    """Id of the asset that its bytes are found to be, once all of them are there."""
    created_ms: int
    changed_ms: int


def find_asset(connection: sa.Connection, tenant: str, asset: str, *, locked: bool = False) -> Asset | None:
    """One asset; locked means that nobody else changes it until the transaction ends."""
    chosen = sa.select(assets).where(assets.c.tenant == tenant, assets.c.id == asset)
    row = connection.execute(chosen.with_for_update() if locked else chosen).first()
    return None if row is None else _asset(row)


def list_assets(connection: sa.Connection, tenant: str, *, before: int | None, most: int) -> Sequence[Asset]:
    """Assets with smaller numbers than `before`, newest first."""
    chosen = sa.select(assets).where(assets.c.tenant == tenant).order_by(assets.c.number.desc()).limit(most)
    if before is not None:
        chosen = chosen.where(assets.c.number < before)
    return [_asset(row) for row in connection.execute(chosen)]


def keep_asset(
    connection: sa.Connection,
    *,
    asset: str,
    tenant: str,
    key: str,
    name: str,
    size_bytes: int,
    digest: str,
    now_ms: int,
) -> tuple[Asset, bool]:
    """The row of an asset, and whether it is new. One that is there keeps its first name and counts as used now."""
    row = {
        "id": asset,
        "tenant": tenant,
        "key": key,
        "name": name,
        "size_bytes": size_bytes,
        "digest": digest,
        "number": next_number(connection, "assets"),
        "created_ms": now_ms,
        "used_ms": now_ms,
    }
    touch = sa.update(assets).where(assets.c.tenant == tenant, assets.c.id == asset).values(used_ms=now_ms)
    is_new = False
    # A row that stood in the way may be deleted by another before it is touched; then there is room for ours.
    while not (is_new or connection.execute(touch).rowcount):
        # Not its rowcount: on PostgreSQL an insert tells none.
        insert = insert_or_ignore(connection, assets).values(**row).returning(assets.c.id)
        is_new = connection.execute(insert).first() is not None
    kept = find_asset(connection, tenant, asset)
    assert kept is not None, "this transaction wrote it"
    return kept, is_new


def delete_asset(connection: sa.Connection, tenant: str, asset: str) -> None:
    """Forget an asset and the uploads that brought it: the same upload id then begins anew."""
    connection.execute(sa.delete(uploads).where(uploads.c.tenant == tenant, uploads.c.asset == asset))
    connection.execute(sa.delete(assets).where(assets.c.tenant == tenant, assets.c.id == asset))


def job_using(connection: sa.Connection, tenant: str, asset: str, *, ended_states: Collection[int]) -> str | None:
    """A job that has not ended and uses the asset."""
    chosen = (
        sa.select(jobs.c.id)
        .join_from(jobs, job_assets, job_assets.c.job == jobs.c.id)
        .where(jobs.c.tenant == tenant, job_assets.c.asset == asset, jobs.c.state.not_in(ended_states))
        .limit(1)
    )
    found: str | None = connection.execute(chosen).scalar()
    return found


def identity_using(connection: sa.Connection, tenant: str, asset: str) -> str | None:
    """An enrolled identity one of whose portraits (or whose landmarks) the asset is."""
    # The reports on the portraits are JSON that names each asset; ids are letters and digits only.
    chosen = (
        sa.select(identities.c.id)
        .where(identities.c.tenant == tenant, identities.c.key != "", identities.c.object_digest != "")
        .where(identities.c.quality.contains(f'"{asset}"', autoescape=True))
        .limit(1)
    )
    found: str | None = connection.execute(chosen).scalar()
    return found


def has_job(connection: sa.Connection, tenant: str, job: str) -> bool:
    """Whether the tenant has this job."""
    return connection.execute(sa.select(jobs.c.id).where(jobs.c.tenant == tenant, jobs.c.id == job)).first() is not None


def find_upload(connection: sa.Connection, tenant: str, upload_id: str) -> Begun | None:
    """One upload."""
    row = connection.execute(
        sa.select(uploads).where(uploads.c.tenant == tenant, uploads.c.upload_id == upload_id)
    ).first()
    return None if row is None else _begun(row)


def asset_of(connection: sa.Connection, upload: Begun) -> Asset | None:
    """What the upload has brought, if it is finished."""
    return None if upload.asset is None else find_asset(connection, upload.tenant, upload.asset)


def insert_upload(connection: sa.Connection, upload: Begun) -> None:
    """A new upload."""
    connection.execute(
        uploads.insert().values(
            tenant=upload.tenant,
            upload_id=upload.upload_id,
            name=upload.name,
            size_bytes=upload.size_bytes,
            confirmed_bytes=upload.confirmed_bytes,
            asset=upload.asset,
            created_ms=upload.created_ms,
            changed_ms=upload.changed_ms,
        )
    )


def change_upload(connection: sa.Connection, upload: Begun, *conditions: sa.ColumnElement[bool], **values: Any) -> bool:
    """Change the row of this upload, not of one that was begun anew under its id; whether it was there."""
    return bool(connection.execute(sa.update(uploads).where(*_same(upload), *conditions).values(**values)).rowcount)


def delete_upload(connection: sa.Connection, upload: Begun, *conditions: sa.ColumnElement[bool]) -> bool:
    """Forget an upload; whether it was there."""
    return bool(connection.execute(sa.delete(uploads).where(*_same(upload), *conditions)).rowcount)


def idle_uploads(connection: sa.Connection, *, before_ms: int, most: int) -> Sequence[Begun]:
    """Uploads of all tenants that nobody continued since then."""
    chosen = sa.select(uploads).where(uploads.c.changed_ms < before_ms).order_by(uploads.c.changed_ms).limit(most)
    return [_begun(row) for row in connection.execute(chosen)]


def unfinished_uploads(connection: sa.Connection, tenant: str) -> Sequence[Begun]:
    """Uploads of a tenant whose parts are still needed."""
    chosen = sa.select(uploads).where(uploads.c.tenant == tenant, is_unfinished())
    return [_begun(row) for row in connection.execute(chosen)]


def tenants(connection: sa.Connection) -> Sequence[str]:
    """All tenants of whom anything is known: who uploaded once may have no row of it left."""
    known = sa.union(*(sa.select(table.c.tenant) for table in (uploads, assets, jobs, identities, keys)))
    return [row[0] for row in connection.execute(known)]


def is_unfinished() -> sa.ColumnElement[bool]:
    """An upload whose asset does not stand: it was never found out, or the process died before it was kept."""
    standing = sa.select(assets.c.id).where(assets.c.tenant == uploads.c.tenant, assets.c.id == uploads.c.asset)
    return ~standing.correlate(uploads).exists()


def _same(upload: Begun) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        uploads.c.tenant == upload.tenant,
        uploads.c.upload_id == upload.upload_id,
        uploads.c.created_ms == upload.created_ms,
    )


def _asset(row: Any) -> Asset:
    return Asset(
        id=row.id,
        tenant=row.tenant,
        key=row.key,
        name=row.name,
        size_bytes=row.size_bytes,
        digest=row.digest,
        number=row.number,
        created_ms=row.created_ms,
        used_ms=row.used_ms,
    )


def _begun(row: Any) -> Begun:
    return Begun(
        tenant=row.tenant,
        upload_id=row.upload_id,
        name=row.name,
        size_bytes=row.size_bytes,
        confirmed_bytes=row.confirmed_bytes,
        asset=row.asset,
        created_ms=row.created_ms,
        changed_ms=row.changed_ms,
    )
