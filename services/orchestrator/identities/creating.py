"""Making an identity: a row that owns what is being written, the object, then the consent and the row's end in one.

A crash between any two of these leaves a row without a digest. The same request takes it up again; one that nobody
takes up is erased with its objects: see `withdrawing`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from services.common.access.callers import Caller
from services.common.audit.chain import Entry
from services.common.audit.log import append
from services.common.error_table import Exit
from services.common.errors import AssetNotFound, IdentityNotFound, MasqueradeError, RequestIdReused, Violation
from services.common.records.database import Records, insert_or_ignore, next_number
from services.common.records.tables import assets, identities
from services.common.store.objects import ObjectStore, keyed_digest
from services.orchestrator import consents
from services.orchestrator.erasure import asset_key, identity_prefix
from services.orchestrator.identities.asking import IdentityRequest
from services.orchestrator.identities.enrolling import Enrolled, Enrolling, PortraitAsset
from services.orchestrator.identities.rows import ASSET, PortraitReport, is_pending, one, quality_json
from services.orchestrator.keys import json_digest

NUMBERS: Final = "identities"
"""Counter of the admission numbers by which lists are ordered."""

_KEY_CHARACTERS = 32


class Creating:
    """Makes identities; asked twice for the same, it makes one."""

    def __init__(
        self, records: Records, store: ObjectStore, enrolling: Enrolling, *, secret: bytes, clock: Callable[[], int]
    ) -> None:
        """Args:
        records: the rows.
        store: where objects lie.
        enrolling: asks the detector.
        secret: of this installation.
        clock: Unix time in ms.
        """
        self._records, self._store, self._enrolling = records, store, enrolling
        self._secret, self._clock = secret, clock

    def id_of(self, tenant: str, request_id: str) -> str:
        """`idn_` and 26 characters, the same for the same request of the same tenant."""
        return "idn_" + keyed_digest(tenant, f"identity {request_id}", self._secret)

    async def create(self, asked: IdentityRequest, caller: Caller) -> Any:
        """Enrol portraits, or answer the identity that the same request made before.

        Args:
            asked: checked.
            caller: whose it is, and who answers for it.

        Returns:
            The row, as `rows.one` gives it.

        Raises:
            RequestIdReused: the request id was used for something else.
            AssetNotFound: a portrait that is no asset of this tenant.
            InvalidSpec: the consent's end is over already.
            MasqueradeError: the portraits' faults, see `Enrolling.enrol`.
        """
        request_id = asked.request_id or f"unnamed {secrets.token_hex(16)}"
        making = _Making(self.id_of(caller.tenant, request_id), request_id, asked, caller, self._clock())
        known, portraits = await self._records.write(making.begin)
        if known is not None:
            return known
        landmarks = asset_key(tenant=caller.tenant, asset=asked.landmarks_asset_id) if asked.is_drawn else ""
        try:
            enrolled = await self._enrolling.enrol(portraits, landmarks_key=landmarks, output_key=making.key)
        except MasqueradeError as error:
            if error.explanation.exit is Exit.REFUSED and await self._records.write(making.give_up):
                await self._store.delete_prefix(identity_prefix(tenant=caller.tenant, identity=making.id))
            raise
        try:
            return await self._records.write(lambda connection: making.end(connection, enrolled))
        except (RequestIdReused, AssetNotFound):
            # Another request with this id came in between, or the portraits went: what was made for ours has no row.
            await self._store.delete(making.key)
            raise


class _Making:
    """One identity on its way."""

    def __init__(self, identity: str, request_id: str, asked: IdentityRequest, caller: Caller, now_ms: int) -> None:
        self.id = identity
        self._request_id, self._asked, self._caller, self._now_ms = request_id, asked, caller, now_ms
        made_of = {"portraits": list(asked.asset_ids), "landmarks": asked.landmarks_asset_id}
        prefix = identity_prefix(tenant=caller.tenant, identity=identity)
        self.key = f"{prefix}{json_digest(made_of)[:_KEY_CHARACTERS]}"

    def begin(self, connection: sa.Connection) -> tuple[Any | None, list[PortraitAsset]]:
        """The finished row of the same request, or a row that owns what will be written, and the portraits."""
        known = self._known(connection)
        if known is not None and (known.object_digest or not known.key):
            return one(connection, self._caller.tenant, self.id), []
        self._asked.check_time(self._now_ms)
        portraits = self._portraits(connection)
        self._insert(connection, portraits)
        # One that was left behind is somebody's again, and not to be swept under their hands.
        mine = sa.and_(identities.c.id == self.id, is_pending())
        connection.execute(sa.update(identities).where(mine).values(created_ms=self._now_ms))
        return None, portraits

    def end(self, connection: sa.Connection, enrolled: Enrolled) -> Any:
        """The consent, and the row that is whole; done before by a twin of this request, it is left as it is."""
        tenant, actor = self._caller.tenant, self._caller.actor
        if self._known(connection) is None:
            self._insert(connection, self._portraits(connection))
        quality = quality_json(enrolled.quality, landmarks=self._asked.landmarks_asset_id)
        claimed = connection.execute(
            sa.update(identities)
            .where(identities.c.id == self.id, identities.c.digest == self._asked.digest, is_pending())
            .values(key=enrolled.key, object_digest=enrolled.digest, quality=quality)
        ).rowcount
        if claimed:
            consent = consents.write(
                connection,
                tenant=tenant,
                actor=actor,
                subject=self.id,
                attestation=self._asked.consent,
                portraits=[asset.removeprefix(ASSET) for asset in self._asked.asset_ids],
                now_ms=self._now_ms,
            )
            connection.execute(sa.update(identities).where(identities.c.id == self.id).values(consent=consent))
            details = {"consent": consent, "portraits": list(self._asked.asset_ids), "object": enrolled.digest}
            append(connection, Entry(tenant, actor, "identity.created", self.id, details=details))
        row = one(connection, tenant, self.id)
        if row is None:
            # A twin has made it, and somebody deleted it since.
            raise IdentityNotFound(identity=self.id)
        return row

    def give_up(self, connection: sa.Connection) -> bool:
        """Take the row back; False if a twin has finished it."""
        return bool(
            connection.execute(
                sa.delete(identities)
                .where(identities.c.id == self.id, identities.c.digest == self._asked.digest)
                .where(is_pending())
            ).rowcount
        )

    def _known(self, connection: sa.Connection) -> Any | None:
        """The row of this request id, finished or not."""
        row = connection.execute(
            sa.select(identities).where(
                identities.c.tenant == self._caller.tenant, identities.c.request_id == self._request_id
            )
        ).first()
        if row is not None and row.digest != self._asked.digest:
            raise RequestIdReused(request_id=self._request_id)
        return row

    def _insert(self, connection: sa.Connection, portraits: list[PortraitAsset]) -> None:
        planned = tuple(PortraitReport(each.id, each.name, 0.0, 0.0, 0.0) for each in portraits)
        connection.execute(
            insert_or_ignore(connection, identities).values(
                id=self.id,
                tenant=self._caller.tenant,
                name=self._asked.name,
                request_id=self._request_id,
                digest=self._asked.digest,
                is_drawn=self._asked.is_drawn,
                key=self.key,
                object_digest="",
                quality=quality_json(planned, landmarks=self._asked.landmarks_asset_id),
                consent="",
                number=next_number(connection, NUMBERS),
                created_ms=self._now_ms,
            )
        )
        # A twin with another content may have been first.
        self._known(connection)

    def _portraits(self, connection: sa.Connection) -> list[PortraitAsset]:
        """Rows of the assets; they count as used from now on."""
        wanted = [(f"asset_ids[{number}]", asset) for number, asset in enumerate(self._asked.asset_ids)]
        if self._asked.is_drawn:
            wanted.append(("landmarks_asset_id", self._asked.landmarks_asset_id))
        ids = [asset for _, asset in wanted]
        mine = sa.and_(assets.c.tenant == self._caller.tenant, assets.c.id.in_(ids))
        rows = {row.id: row for row in connection.execute(sa.select(assets).where(mine))}
        missing = [Violation(path, f"no asset has the id {asset[:64]}") for path, asset in wanted if asset not in rows]
        if missing:
            raise AssetNotFound(violations=missing)
        connection.execute(sa.update(assets).where(mine).values(used_ms=self._now_ms))
        return [PortraitAsset(asset, rows[asset].key, rows[asset].name) for asset in self._asked.asset_ids]
