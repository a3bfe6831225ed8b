"""A file by its own link: resolved once, checked, and fetched from the very address that was checked.

Runs in a child that the parent watches: how much, how long and how slowly is the parent's to say (`links.py`).
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from services.common.errors import LinkRefused, LinkUnreachable, MediaLimitExceeded, NoSpace
from services.ingest.addresses import Reach, resolved

SUFFIXES: Final = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".flv",
    ".mpg",
    ".mpeg",
    ".ts",
    ".m2ts",
    ".gif",
    ".3gp",
)
"""Names of files that are taken for a video before anybody looks: what they are their first bytes say later."""

REDIRECTS_AT_MOST: Final = 3
LONGEST_LINK: Final = 2048
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BYTES_AS_SUCH: Final = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/mp4", "image/gif"}
)
_AS_IT_STANDS: Final = "%/:?#[]@!$&'()*+,;=-._~"
_BLOCK_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Place:
    """A link taken apart."""

    link: str
    is_secure: bool
    host: str
    port: int
    target: str

    @property
    def looks_like_a_file(self) -> bool:
        """Whether its path ends like a video's name."""
        return self.target.partition("?")[0].lower().endswith(SUFFIXES)


def place_of(link: str) -> Place:
    """Take a link apart.

    Raises:
        LinkRefused: it is none that we follow.
    """
    shown = link[:200]
    if len(link) > LONGEST_LINK or not link.isprintable() or " " in link:
        raise LinkRefused(link=shown, problem="it is too long, or holds characters that no link has")
    try:
        parts = urlsplit(link)
        port = parts.port
    except ValueError as error:
        raise LinkRefused(link=shown, problem="it is no link") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LinkRefused(link=shown, problem="only http and https links are followed")
    if parts.username is not None or parts.password is not None:
        raise LinkRefused(link=f"{parts.scheme}://{parts.hostname}", problem="it holds a name or password")
    is_secure = parts.scheme == "https"
    return Place(link, is_secure, parts.hostname, port or (443 if is_secure else 80), _target(parts))


def _target(parts: SplitResult) -> str:
    """Path and query as they are asked for; letters beyond ASCII as browsers write them."""
    return quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_AS_IT_STANDS)


def fetch(link: str, out: Path, reach: Reach, *, most_bytes: int, idle_s: float) -> int:
    """Fetch a file; answers its bytes.

    Args:
        link: http or https.
        out: written anew.
        reach: where connections may lead.
        most_bytes: of the file.
        idle_s: longest wait for a connection, an answer or the next byte.

    Raises:
        LinkRefused: it, or a redirect, leads where we do not go, or to no video.
        LinkUnreachable: nobody answers, or not with the whole file.
        MediaLimitExceeded: it is too large.
    """
    place = place_of(link)
    for _ in range(REDIRECTS_AT_MOST + 1):
        connection = _Pinned(place, reach, idle_s)
        try:
            response = _asked(connection, place)
            if response.status not in _REDIRECTS:
                return _taken(response, place, out, most_bytes)
            # Where it points is a new link, and judged like one.
            place = place_of(urljoin(place.link, response.getheader("Location") or ""))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(path=out.parent, detail=error.strerror) from error
            raise LinkUnreachable(link=place.link, detail=_said(error)) from error
        except http.client.HTTPException as error:
            raise LinkUnreachable(link=place.link, detail=_said(error)) from error
        finally:
            connection.close()
    raise LinkRefused(link=link, problem=f"it is redirected more than {REDIRECTS_AT_MOST} times")


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, under the host's own name: no second look-up can change it."""

    def __init__(self, place: Place, reach: Reach, idle_s: float) -> None:
        super().__init__(place.host, place.port, timeout=idle_s)
        self.default_port = 443 if place.is_secure else 80  # leaves the port out of Host where it is the usual one
        self._place, self._reach = place, reach

    def connect(self) -> None:
        """To the first of the host's addresses that takes us."""
        self.sock = self._connected()
        if self._place.is_secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self._place.host)

    def _connected(self) -> socket.socket:
        refusal: OSError | None = None
        for family, where in resolved(self._place.host, self._place.port, self._reach, link=self._place.link):
            opened = socket.socket(family, socket.SOCK_STREAM)
            opened.settimeout(self.timeout)
            try:
                opened.connect(where)
            except OSError as error:
                opened.close()
                refusal = error
            else:
                return opened
        raise refusal or OSError("its host has no address")


def _asked(connection: http.client.HTTPConnection, place: Place) -> http.client.HTTPResponse:
    headers = {"Accept": "video/*, */*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "masquerade"}
    connection.request("GET", place.target, headers=headers)
    return connection.getresponse()


def _taken(response: http.client.HTTPResponse, place: Place, out: Path, most_bytes: int) -> int:
    if response.status != 200:
        raise LinkUnreachable(link=place.link, detail=f"the server answers {response.status}")
    kind = response.headers.get_content_type() if response.getheader("Content-Type") else ""
    if not (kind.startswith("video/") or (place.looks_like_a_file and kind in _BYTES_AS_SUCH)):
        raise LinkRefused(link=place.link, problem=f"it is served as {kind or 'bytes of no kind'}, not as a video")
    if response.getheader("Content-Encoding", "identity").lower() != "identity":
        raise LinkRefused(link=place.link, problem="it is served compressed, and was not asked for so")
    declared = response.length
    if declared is not None and declared > most_bytes:
        raise MediaLimitExceeded(path=place.link, limit="bytes", value=declared, most=most_bytes)
    taken = 0
    with out.open("xb") as file:
        # read1 gives what is there: a server that drips is seen by the parent as a file that hardly grows.
        while block := response.read1(_BLOCK_BYTES):
            taken += len(block)
            if taken > most_bytes:
                raise MediaLimitExceeded(path=place.link, limit="bytes", most=most_bytes)
            file.write(block)
    if declared is not None and taken != declared:
        raise LinkUnreachable(link=place.link, detail=f"it ended after {taken} of {declared} bytes")
    return taken


def _said(error: Exception) -> str:
    text: Any = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:200]
