"""The lock on a public door: who calls is found out before anything is served."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc.aio

from services.common import errors
from services.common.access.callers import LOCAL, set_caller
from services.common.interceptors import CallInterceptor, CallName, Context
from services.common.records.database import Records
from services.common.settings import ServiceSettings


class OpenDoor(CallInterceptor):
    """Everybody who reaches the address is the one who sits at the machine."""

    @contextlib.asynccontextmanager
    async def around(self, call: CallName, context: Context) -> AsyncIterator[None]:
        """See CallInterceptor."""
        set_caller(LOCAL)
        yield


def public_interceptors(
    settings: ServiceSettings, *, records: Records, secret: bytes
) -> Sequence[grpc.aio.ServerInterceptor]:
    """What stands before the services of a public server, outermost first.

    Args:
        settings: who may call, and how often.
        records: where keys are.
        secret: of this installation.

    Raises:
        InvalidSetting: open access on an address that others can reach.
    """
    if settings.access == "open":
        return (OpenDoor(),)
    raise errors.InvalidSetting(setting="access", value=settings.access, problem="is not built yet")
