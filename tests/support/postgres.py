"""A real PostgreSQL for tests, on the loopback, in a private folder, by Debian's `postgresql`.

One cluster a test session, one database a test. Nothing is configured outside the folder, only the process that was
started here is ended, and its data are gone with the folder. It forces nothing to the disk: what is
tested is what our processes do when it goes away, not whether it keeps what it promised.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

COMPONENT = "postgresql"
READY_WITHIN_S = 60
STOPPED_WITHIN_S = 20
USER = "postgres"
"""It refuses to run as root, and Debian's package brings this user."""

_DEBIAN = Path("/usr/lib/postgresql")
_NAMES = itertools.count(1)


def program(name: str) -> str | None:
    """Where a program of the server is; Debian keeps them out of the path."""
    versions = sorted(_DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((found for where in [*map(str, versions), None] if (found := shutil.which(name, path=where))), None)


def is_installed() -> bool:
    """Whether the server and what makes its folder are there."""
    return all(program(name) for name in ("initdb", "postgres"))


requires_postgres = pytest.mark.skipif(not is_installed(), reason=f"{COMPONENT} is not installed")


@dataclass
class PostgresServer:
    """A cluster; `start` it, ask for databases, `stop` it."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start it on its port and wait until it answers."""
        # A crash of the server keeps what was committed; only one of the machine would not.
        options = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
        options |= {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **self.settings}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [_named("postgres"), "-D", str(self._data), "-p", str(self.port)]
                + [f"--{name}={value}" for name, value in options.items()],
                stdout=log,
                stderr=log,
                **_as_postgres(),
            )
        until = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError(f"no answer: {error}\n{self.log()}") from error
            time.sleep(0.05)

    def stop(self, *, immediate: bool = False) -> None:
        """End it: as a crash does (`immediate`: nothing is written down, connections break), or in order."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        try:
            self.process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOPPED_WITHIN_S)
        self.process = None

    def restart(self, *, immediate: bool = False, away_s: float = 0.0) -> None:
        """Stop it, leave it away for a while, start it on the same port."""
        self.stop(immediate=immediate)
        time.sleep(away_s)
        self.start()

    def url(self, database: str) -> str:
        """Address of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; answers its address."""
        name = f"test_{os.getpid()}_{next(_NAMES)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Do one statement; answers its rows."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """What it said last."""
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def make(self) -> None:
        """Make the cluster's folder."""
        self.port = _free_port()
        subprocess.run(
            [_named("initdb"), "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            check=True,
            timeout=READY_WITHIN_S,
            capture_output=True,
            **_as_postgres(),
        )


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server for as long as the block lasts; about 3 s to its first answer."""
    # Not below the test's own folder: that one is root's alone.
    with tempfile.TemporaryDirectory(prefix="postgres", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        server = PostgresServer(folder)
        server.make()
        try:
            server.start()
            yield server
        finally:
            server.stop(immediate=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's server; mark tests that use it `requires_postgres`."""
    with postgres_server() as server:
        yield server


def _named(name: str) -> str:
    found = program(name)
    assert found is not None, f"{COMPONENT} is not installed"
    return found


def _as_postgres() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {"cwd": "/"}
    return {"user": USER, "group": USER, "extra_groups": [], "cwd": "/"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
