"""The identities' door, wired: records, store, peers, servicer, and the sweep that finishes what was interrupted."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from services.common.deps import Registration
from services.common.errors import MasqueradeError
from services.common.records.database import Records
from services.common.store.objects import ObjectStore
from services.orchestrator.identities.people import People
from services.orchestrator.identities.servicer import SERVICE, IdentityServicer
from services.orchestrator.identities.withdrawing import Stop
from services.orchestrator.peers import Peers

log = logging.getLogger(__name__)

SWEEP_S: Final = 60.0
"""How often what was interrupted is looked for: one query over few rows."""

CLOSE_S: Final = 5.0


def registration(
    *, records: Records, store: ObjectStore, peers: Peers, secret: bytes, stop: Stop, sweep_s: float = SWEEP_S
) -> Registration:
    """IdentityService, for the public server.

    Args:
        records: the rows; opened here if nobody did before.
        store: where objects lie.
        peers: to ask the detector.
        secret: of this installation.
        stop: ends a job that uses a withdrawn face, see `withdrawing.Stop`.
        sweep_s: pause between two sweeps.
    """
    people = People(records, store, peers, secret=secret, stop=stop)
    sweeping: list[asyncio.Task[None]] = []

    async def warm() -> None:
        await records.open()
        sweeping.append(asyncio.create_task(_sweep_on(people, sweep_s), name="identities-sweep"))

    async def close() -> None:
        for task in sweeping:
            task.cancel()
        if sweeping:
            await asyncio.wait(sweeping, timeout=CLOSE_S)

    return Registration(SERVICE, IdentityServicer(people).add_to, warm, close, is_public=True)


async def _sweep_on(people: People, pause_s: float) -> None:
    while True:
        # Replicas that started together do not sweep together.
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        try:
            await people.sweep()
        except MasqueradeError as error:
            log.warning("identities were not swept: %s", error.text(), extra={"fields": {"reason": error.reason}})
