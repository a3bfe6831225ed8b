"""What a service is given, and what it hands back: the shape of every service's `app.py`.

A service does not open its own store, pool, runtime or channels: whoever runs it does, and gives them in one
`ServiceDeps`. So the same code runs alone in a container and beside the other five in one process. Every `app.py`
offers

    async def build(deps: ServiceDeps, settings: XxxSettings | None = None) -> list[Registration]:
        '''Wire the service; `settings` unset means: read from the environment and the data folder.'''

and answers one `Registration` for each gRPC service that it serves. `standalone.mesh` calls the six; `__main__.py`
of a service calls its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc.aio

    from services.common.inference.runtime import Runtime
    from services.common.pool import Pool
    from services.common.records.database import Records
    from services.common.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Registration:
    """One gRPC service, ready to be put on a server."""

    service: str
    """Full name, for health: `masquerade.v1.IngestService`."""

    add: Callable[[grpc.aio.Server], None]
    """Puts the servicer on a server: `lambda server: add_IngestServiceServicer_to_server(servicer, server)`."""

    warm: Callable[[], Awaitable[None]] | None = None
    """Loads what the first call would wait for (models, a child). Health says NOT_SERVING until it returns."""

    close: Callable[[], Awaitable[None]] | None = None
    """Gives back what the servicer holds (children, rings), after its server has drained."""

    is_public: bool = False
    """For other systems: served on the public address alone, to callers who say who they are."""


@dataclass(frozen=True, slots=True)
class ServiceDeps:
    """What a service stands on. In one process all six share one of each."""

    store: ObjectStore
    """Where assets and artifacts live."""

    pool: Pool
    """The one bounded pool for CPU work."""

    channels: Mapping[str, grpc.aio.Channel]
    """Channels to the peers, by the short name of the service: `ingest`, `detector`, `swapper`, ..."""

    scratch: Path
    """A private folder for temporary files, on the disk that the store is on; emptied at the next start."""

    runtime: Runtime | None = None
    """Where models run; None for a service that runs none."""

    records: Records | None = None
    """Rows of jobs, assets and identities, opened by the first who needs them; None for a service that keeps none."""

    secret: bytes = b""
    """Of this installation, for keyed digests."""

    tenant: str = "local"
    """The tenant of a command on a laptop. A service reads a call's tenant from the call, this one never."""

    extras: Mapping[str, object] = field(default_factory=dict)
    """What tests and tools hand to one service alone, by name; nothing in production reads it."""
