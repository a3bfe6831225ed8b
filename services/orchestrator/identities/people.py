"""Enrolled identities as the door asks for them: create, look, list, withdraw."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.common.access.callers import Caller
from services.common.audit.chain import REFUSED, Entry
from services.common.audit.log import write
from services.common.error_table import Exit
from services.common.errors import IdentityNotFound, MasqueradeError
from services.common.records.database import Records
from services.common.records.pages import number_before, rows_of, token_after
from services.common.records.tables import identities
from services.common.store.objects import ObjectStore
from services.orchestrator.identities.asking import IdentityRequest
from services.orchestrator.identities.creating import Creating
from services.orchestrator.identities.enrolling import Enrolling
from services.orchestrator.identities.rows import one, visible
from services.orchestrator.identities.withdrawing import Stop, Withdrawing
from services.orchestrator.peers import Peers


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some identities, newest first."""

    rows: Sequence[Any]
    next_token: str


class People:
    """What can be done with identities."""

    def __init__(self, records: Records, store: ObjectStore, peers: Peers, *, secret: bytes, stop: Stop) -> None:
        """Args:
        records: the rows.
        store: where objects lie.
        peers: to ask the detector.
        secret: of this installation.
        stop: ends a job that uses a withdrawn face.
        """
        self._records = records
        self._creating = Creating(records, store, Enrolling(peers, store), secret=secret, clock=now_ms)
        self._withdrawing = Withdrawing(records, store, stop=stop, clock=now_ms)

    async def create(self, asked: IdentityRequest, caller: Caller) -> Any:
        """Enrol portraits, or answer what the same request made before; a refusal is a line of the audit log.

        Raises:
            MasqueradeError: see `IdentityRequest.check` and `Creating.create`.
        """
        try:
            asked.check()
            return await self._creating.create(asked, caller)
        except MasqueradeError as error:
            if error.explanation.exit is Exit.REFUSED:
                subject = self._creating.id_of(caller.tenant, asked.request_id) if asked.request_id else ""
                action = "consent.refused" if error.reason.startswith("CONSENT_") else "identity.refused"
                details = {"reason": error.reason}
                await write(self._records, Entry(caller.tenant, caller.actor, action, subject, REFUSED, details))
            raise

    async def get(self, identity: str, caller: Caller) -> Any:
        """One identity, as `rows.one` gives it.

        Raises:
            IdentityNotFound: there is none of this tenant.
        """
        row = await self._records.read(lambda connection: one(connection, caller.tenant, identity))
        if row is None:
            raise IdentityNotFound(identity=identity)
        return row

    async def list(self, *, page_size: int, page_token: str, caller: Caller) -> Page:
        """Identities, newest first.

        Raises:
            InvalidSpec: the token is none of this list.
        """
        this_list = ["identities", caller.tenant]
        before = number_before(page_token, of=this_list)
        most = rows_of(page_size)
        asked = visible(caller.tenant).order_by(identities.c.number.desc()).limit(most + 1)
        if before is not None:
            asked = asked.where(identities.c.number < before)
        rows = await self._records.read(lambda connection: connection.execute(asked).all())
        shown = rows[:most]
        return Page(shown, token_after(shown[-1].number, of=this_list) if len(rows) > most else "")

    async def delete(self, identity: str, caller: Caller) -> None:
        """See `Withdrawing.delete`."""
        await self._withdrawing.delete(identity, caller)

    async def revoke(self, identity: str, caller: Caller) -> Any:
        """See `Withdrawing.revoke`."""
        return await self._withdrawing.revoke(identity, caller)

    async def sweep(self) -> int:
        """See `Withdrawing.sweep`."""
        return await self._withdrawing.sweep()
