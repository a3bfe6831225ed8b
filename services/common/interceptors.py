"""What happens around every call, so that no servicer has to: errors become status, calls are counted, deadlines kept.

Outermost first: errors, log fields, metrics, deadline, what a public door asks (services/common/access), admission. All
four kinds of RPC pass through the same code; streaming handlers are async generators. Health and reflection pass
untouched: probes would drown everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio

from services.common import errors, metrics
from services.common.deadlines import set_remaining
from services.common.error_table import Exit
from services.common.errors import MasqueradeError
from services.common.logs import TRAVELLING, set_log_fields
from services.common.status import from_rpc_error, grpc_code, to_grpc_status

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

METADATA_PREFIX = "masquerade-"
_UNTOUCHED = ("/grpc.health.", "/grpc.reflection.")
_FLOODING = frozenset({"UNAUTHENTICATED", "RATE_LIMITED"})
"""Counted, but not logged one by one: whoever is refused a thousand times a second would fill the disk."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallName:
    """Which RPC this is."""

    service: str
    method: str
    kind: str
    """unary, client_stream, server_stream or bidi_stream."""

    @property
    def labels(self) -> tuple[str, str, str]:
        """As metrics name it."""
        return (self.kind, self.service, self.method)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Does something around each call. Derived classes say what, in `around`, for all four kinds at once."""

    async def before(self, call: CallName, metadata: Metadata) -> None:
        """What happens when only the call's name and metadata are there: what is refused here is never read.

        Runs in the call's own task; where several interceptors have something to do here, the innermost comes first.
        What it raises rises through the `around` of the interceptors outside this one.
        """

    def around(self, call: CallName, context: Context) -> AbstractAsyncContextManager[None]:
        """What happens before and after; the call's own error rises through it."""
        return contextlib.nullcontext()

    def requests(self, call: CallName, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The messages of a caller that streams, as the handler gets them."""
        return messages

    def reading(self, parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
        """How bytes from the wire become a message; None leaves them as they are."""
        return parse

    def received(self, call: CallName, message: Any) -> None:
        """A message came in."""

    def sent(self, call: CallName) -> None:
        """A message went out."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of this call."""
        handler: Any = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(_UNTOUCHED):
            return handler  # type: ignore[no-any-return]
        _, service, name = method.split("/")
        has_stream = (bool(handler.request_streaming), bool(handler.response_streaming))
        kind, slot, make = _KINDS[has_stream]
        call = CallName(service, name, getattr(handler, "kind", kind))
        try:
            await self.before(call, handler_call_details.invocation_metadata or ())
        except Exception as error:  # noqa: BLE001  # told to the caller by the errors' interceptor, as any other
            return _unread(call, error, handler)  # type: ignore[no-any-return]
        behaviour = getattr(handler, slot)
        if has_stream[1] and not inspect.isasyncgenfunction(behaviour):
            raise TypeError(f"{method} streams its answers and must be an async generator")
        codec = {
            "request_deserializer": self.reading(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        wrapped = _answering if not has_stream[1] else _streaming
        return _named(make(wrapped(self, call, behaviour, has_stream[0]), **codec), call)  # type: ignore[no-any-return]


_KINDS: dict[tuple[bool, bool], tuple[str, str, Callable[..., Any]]] = {
    (False, False): ("unary", "unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("server_stream", "unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("client_stream", "stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("bidi_stream", "stream_stream", grpc.stream_stream_rpc_method_handler),
}


def _named(handler: Any, call: CallName) -> Any:
    """The kind goes along: a call that is refused unread looks like a stream to who only sees its handler."""
    handler.kind = call.kind
    return handler


def _unread(call: CallName, error: Exception, handler: Any) -> Any:
    """A handler that raises and reads nothing: gRPC reads the message of a call whose handler takes a stream only when
    it is asked to, so a flood of refused calls costs no parsing and no unpacking."""

    async def answer(_requests: Any, _context: Context) -> Any:
        raise error

    async def stream(_requests: Any, _context: Context) -> AsyncIterator[Any]:
        raise error
        yield  # type: ignore[unreachable]  # what makes it a generator

    make = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    behaviour: Any = stream if handler.response_streaming else answer
    return _named(make(behaviour, handler.request_deserializer, handler.response_serializer), call)


def _answering(interceptor: CallInterceptor, call: CallName, behaviour: Any, streams_in: bool) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        async with interceptor.around(call, context):
            response = await behaviour(_counted(interceptor, call, request, streams_in), context)
        interceptor.sent(call)
        return response

    return answer


def _streaming(interceptor: CallInterceptor, call: CallName, behaviour: Any, streams_in: bool) -> Any:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with interceptor.around(call, context):
            # Closed here and not by the garbage collector: what the handler lent out comes back before the call ends.
            responses = behaviour(_counted(interceptor, call, request, streams_in), context)
            async with contextlib.aclosing(responses):
                async for response in responses:
                    interceptor.sent(call)
                    yield response

    return stream


def _counted(interceptor: CallInterceptor, call: CallName, request: Any, streams_in: bool) -> Any:
    if not streams_in:
        interceptor.received(call, request)
        return request

    async def requests() -> AsyncIterator[Any]:
        async for message in interceptor.requests(call, request):
            interceptor.received(call, message)
            yield message

    return requests()


class Errors(CallInterceptor):
    """Typed errors become status with details; anything else is a fault of ours, logged here and given a number."""

    @contextlib.asynccontextmanager
    async def around(self, call: CallName, context: Context) -> AsyncIterator[None]:
        """See CallInterceptor."""
        try:
            yield
        except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001  # the one place where every error ends
            typed = typed_error(error)
            metrics.ERRORS.labels(typed.reason).inc()
            where = {"rpc": f"{call.service}/{call.method}", "reason": typed.reason, **typed.fields}
            if typed.explanation.exit is Exit.FAULT:
                _log.error("%s", typed.text(), extra={"fields": where}, exc_info=error)
            else:
                level = logging.DEBUG if typed.reason in _FLOODING else logging.INFO
                _log.log(level, "%s", typed.text(), extra={"fields": where})
            await context.abort_with_status(to_grpc_status(typed))


def typed_error(error: BaseException) -> MasqueradeError:
    """The error as programs know it; the first typed one of a group; Internal with a number for what is not ours."""
    if isinstance(error, MasqueradeError):
        return error
    if isinstance(error, BaseExceptionGroup):
        leaves = [typed_error(inner) for inner in error.exceptions]
        faults = [leaf for leaf in leaves if leaf.reason not in ("INTERNAL", "CANCELLED")]
        return (faults or leaves)[0]
    if isinstance(error, grpc.RpcError):
        return from_rpc_error(error)
    if isinstance(error, TimeoutError):
        return errors.DeadlineExceeded()
    # The text of a stranger's exception may hold paths or bytes of the input: it stays in the log.
    return errors.Internal(kind=type(error).__name__, incident=secrets.token_hex(4))


class LogFields(CallInterceptor):
    """The job and the segment of the caller are fields of what is logged here."""

    @contextlib.asynccontextmanager
    async def around(self, call: CallName, context: Context) -> AsyncIterator[None]:
        """See CallInterceptor."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        given = {
            name: metadata[METADATA_PREFIX + name][:64] for name in TRAVELLING if METADATA_PREFIX + name in metadata
        }
        set_log_fields(**given)
        yield


class Metrics(CallInterceptor):
    """Counts under the names of go-grpc-prometheus."""

    def received(self, call: CallName, message: Any) -> None:
        metrics.RPC_RECEIVED.labels(*call.labels).inc()

    def sent(self, call: CallName) -> None:
        metrics.RPC_SENT.labels(*call.labels).inc()

    @contextlib.asynccontextmanager
    async def around(self, call: CallName, context: Context) -> AsyncIterator[None]:
        """See CallInterceptor."""
        metrics.RPC_STARTED.labels(*call.labels).inc()
        begin = time.perf_counter()
        code = "OK"
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            code = "Canceled"
            raise
        except grpc.aio.AbortError:
            aborted = context.code()
            code = _go_name(aborted) if isinstance(aborted, grpc.StatusCode) else "Unknown"
            raise
        except Exception as error:
            code = _go_name(grpc_code(typed_error(error)))
            raise
        finally:
            metrics.RPC_HANDLED.labels(*call.labels, code).inc()
            metrics.RPC_SECONDS.labels(*call.labels).observe(time.perf_counter() - begin)


def _go_name(code: grpc.StatusCode) -> str:
    """A status as Go prints it, because dashboards match on that."""
    if code is grpc.StatusCode.OK:
        return "OK"
    return "Canceled" if code is grpc.StatusCode.CANCELLED else code.name.title().replace("_", "")


class Deadlines(CallInterceptor):
    """Refuses work that nobody waits for any more, and tells the channels to the peers how long the caller waits."""

    @contextlib.asynccontextmanager
    async def around(self, call: CallName, context: Context) -> AsyncIterator[None]:
        """See CallInterceptor."""
        left = context.time_remaining()
        if left is not None and left <= 0:
            raise errors.DeadlineExceeded(what=f"{call.service}/{call.method}")
        set_remaining(left)
        yield


class Admission(CallInterceptor):
    """Serves so many calls at once; more are told to come again instead of waiting unseen."""

    def __init__(self, calls_at_most: int) -> None:
        self._at_most = calls_at_most
        self._running = 0

    @property
    def running(self) -> int:
        """Calls that are being served."""
        return self._running

    @contextlib.asynccontextmanager
    async def around(self, call: CallName, context: Context) -> AsyncIterator[None]:
        """See CallInterceptor."""
        if self._running >= self._at_most:
            raise errors.Overloaded(what=call.service, most=self._at_most, retry_after_s=1)
        self._running += 1
        metrics.RPC_IN_FLIGHT.inc()
        try:
            yield
        finally:
            self._running -= 1
            metrics.RPC_IN_FLIGHT.dec()


def server_interceptors(
    *, calls_at_most: int, doors: Sequence[grpc.aio.ServerInterceptor] = ()
) -> Sequence[grpc.aio.ServerInterceptor]:
    """The interceptors of every server, outermost first.

    Args:
        calls_at_most: that are served at once.
        doors: what a public server asks of its callers. Before admission: strangers take nobody's place.
    """
    # Callers from outside put nothing into our logs: there the lock says whose call it is.
    fields = () if doors else (LogFields(),)
    return (Errors(), *fields, Metrics(), Deadlines(), *doors, Admission(calls_at_most))
