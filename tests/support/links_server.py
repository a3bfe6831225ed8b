"""Web servers on loopback that behave well and badly, and remember who asked for what."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]
VIDEO = bytes(range(256)) * 400


@dataclass(slots=True)
class Web:
    """One server: what it answers by path, and what it was asked."""

    port: int = 0
    host: str = "127.0.0.1"
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and Host of each request."""
    was_asked: threading.Event = field(default_factory=threading.Event)

    def link(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"


@contextmanager
def web(host: str = "127.0.0.1", *, wrap: Callable[[Any], Any] | None = None) -> Iterator[Web]:
    """A server on its own threads until the block ends."""
    site = Web(host=host)

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers.get("Host", "")))
            site.was_asked.set()
            self.close_connection = True
            with contextlib.suppress(ConnectionError):
                site.answers.get(self.path, status(404))(self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer((host, 0), Door)
    server.daemon_threads = True
    site.port = server.server_address[1]
    if wrap is not None:
        server.socket = wrap(server.socket)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def serves(content: bytes, kind: str = "video/mp4", *, declared: int | None = None, **headers: str) -> Answer:
    """A file."""

    def answer(door: BaseHTTPRequestHandler) -> None:
        door.send_response(200)
        door.send_header("Content-Type", kind)
        door.send_header("Content-Length", str(len(content) if declared is None else declared))
        for name, value in headers.items():
            door.send_header(name.replace("_", "-"), value)
        door.end_headers()
        door.wfile.write(content)

    return answer


def leads_to(link: str, code: int = 302) -> Answer:
    """A redirect."""

    def answer(door: BaseHTTPRequestHandler) -> None:
        door.send_response(code)
        door.send_header("Location", link)
        door.send_header("Content-Length", "0")
        door.end_headers()

    return answer


def status(code: int) -> Answer:
    """Nothing but a status."""

    def answer(door: BaseHTTPRequestHandler) -> None:
        door.send_response(code)
        door.send_header("Content-Length", "0")
        door.end_headers()

    return answer


def never_ends(block: bytes, *, pause_s: float) -> Answer:
    """A file of no declared length that goes on until the reader leaves, at most ten seconds."""

    def answer(door: BaseHTTPRequestHandler) -> None:
        door.send_response(200)
        door.send_header("Content-Type", "video/mp4")
        door.end_headers()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            door.wfile.write(block)
            time.sleep(pause_s)

    return answer
