"""A process says that it lives by locks of a PostgreSQL session of its own; whoever asks finds them held or free.

The locks go with the session: when the process dies, when its machine goes away, and, since a session that says nothing
is ended by the server, also when the process is stopped or hangs. A restart of PostgreSQL drops all locks at once; they
are taken again within seconds, and until then nobody may be called dead (`recovery.py`).

Needs PostgreSQL 14, and a connection that stays the same one: no pooler that hands sessions round.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import psycopg

from services.common.errors import InvalidSetting, Unavailable

log = logging.getLogger(__name__)

PATIENCE_S: Final = 30.0
"""So long a database that does not answer is waited for at the start."""

PROMPT: Final[dict[str, Any]] = {
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}
"""Of a connection: a machine that went away answers nothing, and is found in seconds, not after the system's hours."""

_PAUSE_S = 1.0
_BEATS_A_LEASE = 5


def executor_lock(executor: str) -> int:
    """Number of the lock that a living process holds under its name."""
    return _number(f"masquerade.executor.{executor}")


def version_lock(version: str) -> int:
    """Number of the lock that all living processes of a version share."""
    return _number(f"masquerade.version.{version}")


def held(url: str, locks: Iterable[int]) -> frozenset[int]:
    """Which of the locks somebody holds, in one look. Blocks.

    Raises:
        Unavailable: the database does not answer.
    """
    wanted = frozenset(locks)
    with _answered(), _connect(url) as connection:
        rows = connection.execute(
            "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks"
            " WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
    return wanted & {int(str(number)) for (number,) in rows}


@contextlib.contextmanager
def taken(url: str, lock: int) -> Iterator[bool]:
    """Hold a lock for as long as the block lasts, if nobody else does; whether it is held. Blocks.

    Raises:
        Unavailable: the database does not answer.
    """
    with _answered(), _connect(url) as connection:
        # It goes with the connection.
        yield _try(connection, "pg_try_advisory_lock", lock)


class Liveness:
    """Holds the locks of this process, from a thread: a loop that is busy is not dead."""

    def __init__(self, url: str, executor: str, version: str, *, lease_s: float = 15.0) -> None:
        """Args:
        url: the engine's database, `postgresql://...`.
        executor: name of this process.
        version: of its histories.
        lease_s: so long after its last sign of life the server ends the session.
        """
        self._url, self._executor, self._version, self._lease_s = url, executor, version, lease_s
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._held_since: float | None = None
        self._problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="liveness", daemon=True)

    @property
    def held_since(self) -> float | None:
        """Since when, by the monotonic clock, the locks are held without a break; None while they are not."""
        return self._held_since

    def take(self) -> None:
        """Take the locks, and keep them from then on. Blocks.

        Raises:
            InvalidSetting: another living process has this name, or PostgreSQL is too old.
            Unavailable: the database does not answer.
        """
        began = time.monotonic()
        while not self._retake():
            waited_s = time.monotonic() - began
            if self._connection is None and waited_s >= PATIENCE_S:
                raise Unavailable(peer="the engine's database", detail=self._problem)
            # The session of a process of this name that died a moment ago may still be there, for as long as a lease.
            if self._connection is not None and waited_s >= 2 * self._lease_s + _PAUSE_S:
                self._drop()
                raise InvalidSetting(
                    setting="executor",
                    problem=f"another process runs under the name {self._executor}",
                    remedy="give each orchestrator a name of its own",
                )
            time.sleep(_PAUSE_S / 4)
        self._thread.start()

    def close(self) -> None:
        """Let the locks go. Blocks until the thread has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * PATIENCE_S)
        self._drop()

    def _beat(self) -> None:
        while not self._stop.wait(self._lease_s / _BEATS_A_LEASE if self._held_since is not None else _PAUSE_S):
            if self._held_since is None:
                self._retake()
                continue
            try:
                assert self._connection is not None, "held by a connection"
                self._connection.execute("SELECT 1")
            except psycopg.Error as error:
                log.warning(
                    "the session that says this process lives broke", extra={"fields": {"detail": _plain(error)}}
                )
                self._drop()

    def _retake(self) -> bool:
        """Try once to have a session with both locks; whether it has."""
        try:
            if self._connection is None:
                self._connection = _connect(self._url)
                self._connection.execute(f"SET idle_session_timeout = {int(1000 * self._lease_s)}")
            if not _try(self._connection, "pg_try_advisory_lock", executor_lock(self._executor)):
                return False
            _try(self._connection, "pg_try_advisory_lock_shared", version_lock(self._version))
        except psycopg.errors.UndefinedObject as error:
            self._drop()
            raise InvalidSetting(
                setting="database",
                problem="PostgreSQL is older than 14: it cannot end sessions that are idle",
                remedy="use PostgreSQL 14 or newer",
            ) from error
        except psycopg.Error as error:
            self._problem = _plain(error)
            log.info("no session yet to say that this process lives", extra={"fields": {"detail": self._problem}})
            self._drop()
            return False
        self._held_since = time.monotonic()
        return True

    def _drop(self) -> None:
        self._held_since = None
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()


def _connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=5,
        application_name="masquerade-liveness",
        **PROMPT,
    )


def _try(connection: psycopg.Connection[tuple[object, ...]], function: str, lock: int) -> bool:
    row = connection.execute(f"SELECT {function}(%s)".encode(), (lock,)).fetchone()
    return row is not None and bool(row[0])


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        raise Unavailable(peer="the engine's database", detail=_plain(error)) from error


def _plain(error: psycopg.Error) -> str:
    """The database's own words in one line."""
    return " ".join(str(error).split())[:200]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
