"""Assets that are stored: one, many, deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from services.common.audit.chain import REFUSED, Entry
from services.common.audit.log import append, write
from services.common.errors import AssetNotFound, InUse
from services.common.records.database import Records
from services.common.records.pages import number_before, rows_of, token_after
from services.common.store.objects import ObjectStore
from services.common.store.removal import remover
from services.ingest.assets import rows
from services.ingest.assets.rows import Asset


@dataclass(frozen=True, slots=True)
class Page:
    """Some assets, newest first, and the token for those behind them; empty at the end."""

    assets: Sequence[Asset]
    next_page_token: str


class Library:
    """The assets of all tenants, each tenant's own for itself."""

    def __init__(self, records: Records, store: ObjectStore, *, ended_states: Collection[int]) -> None:
        """Over rows and objects.

        Args:
            records: rows.
            store: objects.
            ended_states: numbers of the states in which a job needs nothing any more.
        """
        self._records = records
        self._store = store
        self._ended_states = ended_states

    async def get(self, tenant: str, asset: str) -> Asset:
        """One asset.

        Raises:
            AssetNotFound: the tenant has none of this id.
        """
        found = await self._records.read(lambda connection: rows.find_asset(connection, tenant, asset))
        if found is None:
            raise AssetNotFound(asset=asset[:80])
        return found

    async def list(self, tenant: str, *, page_size: int, page_token: str) -> Page:
        """A page of assets.

        Raises:
            InvalidSpec: a token of another list.
        """
        of = ["assets", tenant]
        before, most = number_before(page_token, of=of), rows_of(page_size)
        found = await self._records.read(
            lambda connection: rows.list_assets(connection, tenant, before=before, most=most + 1)
        )
        is_last = len(found) <= most
        page = found[:most]
        return Page(page, "" if is_last else token_after(page[-1].number, of=of))

    async def delete(self, tenant: str, asset: str, *, actor: str) -> None:
        """Delete an asset, row and bytes.

        Raises:
            AssetNotFound: the tenant has none of this id.
            InUse: a job that has not ended, or an identity, uses it.
        """
        remove = remover(self._store)

        def work(connection: sa.Connection) -> None:
            found = rows.find_asset(connection, tenant, asset, locked=True)
            if found is None:
                raise AssetNotFound(asset=asset[:80])
            self._require_unused(connection, tenant, asset)
            rows.delete_asset(connection, tenant, asset)
            remove(found.key)
            append(connection, Entry(tenant, actor, "asset.deleted", asset, details={"size_bytes": found.size_bytes}))

        try:
            await self._records.write(work)
        except InUse as error:
            details = {"reason": error.reason, **{name: error.fields[name] for name in error.fields if name != "what"}}
            await write(self._records, Entry(tenant, actor, "asset.deleted", asset, REFUSED, details))
            raise

    def _require_unused(self, connection: sa.Connection, tenant: str, asset: str) -> None:
        job = rows.job_using(connection, tenant, asset, ended_states=self._ended_states)
        if job is not None:
            raise InUse(what="the asset", job=job)
        identity = rows.identity_using(connection, tenant, asset)
        if identity is not None:
            raise InUse(what="the asset", identity=identity, remedy="delete the identity: its portraits go with it")
