"""All public services on one address with toys behind them, stopped and started again as a test wishes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from services.common.access import keys
from services.common.access.door import build_public_server
from services.common.deps import ServiceDeps
from services.common.pool import Pool
from services.common.records.database import Records
from services.common.server import Server, build_server
from services.common.settings import ServiceSettings
from services.common.store.folder import FolderStore
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.orchestrator.app import build as build_orchestrator
from services.orchestrator.settings import OrchestratorSettings
from tests.e2e.ports import free_ports
from tests.support.toy_peers import StoringPeers

SECRET = b"s" * 32


@dataclass
class PublicHouse:
    """The door, what lies behind it, and the way to shut and open it."""

    folder: Path
    target: str
    records: Records
    store: FolderStore
    peers: StoringPeers
    flags: dict[str, Any] = field(default_factory=dict)
    has_jobs: bool = True
    _servers: list[Server] = field(default_factory=list)

    async def start(self) -> None:
        """Listen, always on the same address."""
        common = {"data": str(self.folder), "public_listen": self.target}
        settings = ServiceSettings.load({**common, **self.flags})
        deps = ServiceDeps(
            store=self.store,
            pool=cast(Pool, None),
            channels={},
            scratch=self.folder / "scratch",
            records=self.records,
            secret=SECRET,
            extras={"peers": self.peers},
        )
        built = await build_orchestrator(deps, OrchestratorSettings.load(common)) if self.has_jobs else []
        inner = ServiceSettings.load({"data": str(self.folder), "listen": "127.0.0.1:0"})
        if built:
            self._servers = [build_server([each for each in built if not each.is_public], inner)]
        built += await build_ingest(deps, IngestSettings.load({**common, "upload_part_bytes": 1 << 20}))
        doors = [each for each in built if each.is_public]
        public = build_public_server(doors, settings, listen=self.target, records=self.records, secret=SECRET)
        self._servers.append(public)
        for server in self._servers:
            await server.start()
        for server in self._servers:
            await server.warmed()

    async def stop(self) -> None:
        """As if somebody pulled the plug, for callers."""
        while self._servers:
            await self._servers.pop().stop(drain_s=0)

    async def key(self, tenant: str = "studio") -> str:
        """The text of a new key."""
        return (await keys.make(self.records, SECRET, tenant=tenant, actor="test"))[1]


@contextlib.asynccontextmanager
async def public_house(folder: Path, *, has_jobs: bool = True, **flags: Any) -> AsyncIterator[PublicHouse]:
    """Open the door on loopback, for holders of keys.

    Args:
        folder: for everything.
        has_jobs: serve jobs and identities too; a process can have one such house at a time.
        flags: settings of the door.
    """
    store = FolderStore(folder / "objects")
    records = Records(f"sqlite:///{folder / 'records.sqlite'}")
    house = PublicHouse(
        folder, f"127.0.0.1:{free_ports(1)}", records, store, StoringPeers(store), dict(flags), has_jobs
    )
    try:
        await house.start()
        yield house
    finally:
        await house.stop()
        await records.close()
