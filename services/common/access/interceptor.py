"""The lock on a public door: who calls, and whether not too often, is found out before anything of the call is read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import grpc.aio

from services.common import errors
from services.common.access.addresses import is_local
from services.common.access.callers import LOCAL, Caller, current_caller, set_caller
from services.common.access.ends import Ends
from services.common.access.keys import PREFIX
from services.common.access.known_keys import KnownKeys
from services.common.access.rates import Rates
from services.common.access.refusals import Refusals, Refused
from services.common.access.tokens import Tokens
from services.common.interceptors import CallInterceptor, CallName, Context, Metadata
from services.common.logs import set_log_fields
from services.common.records.database import Records
from services.common.settings import ServiceSettings

HEADER = "authorization"


class OpenDoor(CallInterceptor):
    """Everybody who reaches the address is the one who sits at the machine."""

    async def before(self, call: CallName, metadata: Metadata) -> None:
        """See CallInterceptor."""
        set_caller(LOCAL)


class LockedDoor(CallInterceptor):
    """Nobody calls who does not show a key or a token that holds."""

    def __init__(self, keys: KnownKeys, tokens: Tokens | None, refusals: Refusals, rates: Rates) -> None:
        self._keys = keys
        self._tokens = tokens
        self._refusals = refusals
        self._rates = rates

    async def before(self, call: CallName, metadata: Metadata) -> None:
        """See CallInterceptor."""
        # What an earlier call of this task's ancestors said does not count.
        set_caller(None)
        try:
            caller = await self._caller(metadata)
        except Refused as refused:
            raise await self._refusals.told(refused, rpc=f"{call.service}/{call.method}") from None
        set_caller(caller)
        set_log_fields(tenant=caller.tenant)
        self._rates.admit(call, caller.tenant)

    def around(self, call: CallName, context: Context) -> AbstractAsyncContextManager[None]:
        """See CallInterceptor."""
        return self._rates.place(call, current_caller().tenant)

    async def _caller(self, metadata: Metadata) -> Caller:
        shown = [value for key, value in metadata if key == HEADER]
        if not shown:
            raise Refused("nothing_shown", "the call carries no key")
        if len(shown) > 1:
            raise Refused("bad_header", f"the call carries {HEADER} more than once")
        scheme, _, text = str(shown[0]).partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise Refused("bad_header", f"{HEADER} is not `Bearer KEY`")
        if text.startswith(PREFIX):
            return await self._keys.caller(text)
        if text.count(".") != 2:
            raise Refused("bad_header", "what was sent is neither a key nor a token")
        if self._tokens is None:
            raise Refused("no_tokens", "tokens are not taken here; send a key")
        return self._tokens.caller(text)


def public_interceptors(
    settings: ServiceSettings, *, listen: str, records: Records, secret: bytes
) -> Sequence[grpc.aio.ServerInterceptor]:
    """What stands before the services of a public server, outermost first: the lock, then an end to each call.

    An open door knows one caller and so has no rates.

    Args:
        settings: who may call, and how often.
        listen: where the server listens.
        records: where keys are.
        secret: of this installation.

    Raises:
        InvalidSetting: open access on an address that others can reach, tokens without an issuer, or no secret.
    """
    ends = Ends(idle_s=settings.stream_idle_s, total_s=settings.stream_total_s)
    if settings.access == "open":
        if not is_local(listen):
            raise errors.InvalidSetting(
                setting="access",
                value="open",
                problem=f"everybody who reaches {listen} could use every face",
                remedy="set access to keys, or listen on a loopback address or a unix socket",
            )
        return (OpenDoor(), ends)
    if not secret:
        raise errors.InvalidSetting(setting="secret", problem="is empty: anybody could make keys")
    keys = KnownKeys(records, secret, cached_s=settings.keys_cached_s)
    rates = Rates(
        per_s=settings.requests_per_s,
        burst=settings.requests_burst,
        calls_at_most=settings.tenant_calls_at_most,
        streams_at_most=settings.tenant_streams_at_most,
    )
    return (LockedDoor(keys, Tokens.of(settings), Refusals(records), rates), ends)
