"""A small S3 for unit tests: PUT with conditions and parts, GET, HEAD, DELETE, listing. It checks no signature.

Real servers are asked in tests/integration; this one is for what they do not do on demand: to fail in the middle, to
ignore conditions as old ones did, to give other bytes than were stored.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Bucket:
    """What the server holds and how it misbehaves."""

    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, dict[str, str], dict[int, bytes]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    knows_conditions: bool = True
    fails_with: tuple[int, str] | None = None
    before_write: list[tuple[str, bytes]] = field(default_factory=list)
    """Objects that another writer puts just before the next write."""
    endpoint: str = ""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _parts(self) -> tuple[str, dict[str, list[str]]]:
        url = urlsplit(self.path)
        return unquote(url.path).split("/", 2)[2] if url.path.count("/") > 1 else "", parse_qs(url.query, True)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if body.startswith(b"<"):
            self.send_header("Content-Type", "application/xml")
        if status != 204:
            self.send_header("Content-Length", headers.pop("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _begin(self) -> bytes | None:
        """The request's body, or None when the server is to fail."""
        self.bucket.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("x-amz-content-sha256", "").startswith("STREAMING"):
            body = re.sub(rb"[0-9a-f]+;chunk-signature=[0-9a-f]+\r\n|\r\n", b"", body)
        if self.bucket.fails_with:
            self._refuse(*self.bucket.fails_with)
            return None
        return body

    def _store(self, key: str, content: bytes, metadata: dict[str, str]) -> bool:
        for other, other_content in self.bucket.before_write:
            self.bucket.objects[other] = (other_content, {"sha256": hashlib.sha256(other_content).hexdigest()})
        self.bucket.before_write.clear()
        is_once = self.headers.get("If-None-Match") == "*" and self.bucket.knows_conditions
        if is_once and key in self.bucket.objects:
            self._refuse(412, "PreconditionFailed")
            return False
        self.bucket.objects[key] = (content, metadata)
        return True

    def _metadata(self) -> dict[str, str]:
        prefix = "x-amz-meta-"
        return {k.lower().removeprefix(prefix): v for k, v in self.headers.items() if k.lower().startswith(prefix)}

    def do_PUT(self) -> None:
        body = self._begin()
        if body is None:
            return
        key, query = self._parts()
        if "uploadId" in query:
            self.bucket.uploads[query["uploadId"][0]][2][int(query["partNumber"][0])] = body
            self._answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')
        elif self._store(key, body, self._metadata()):
            self._answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')

    def do_POST(self) -> None:
        body = self._begin()
        if body is None:
            return
        key, query = self._parts()
        if "uploads" in query:
            upload = f"upload{len(self.bucket.uploads)}"
            self.bucket.uploads[upload] = (key, self._metadata(), {})
            self._answer(
                200,
                f"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode(),
            )
        elif "uploadId" in query:
            key, metadata, parts = self.bucket.uploads.pop(query["uploadId"][0])
            if self._store(key, b"".join(parts[n] for n in sorted(parts)), metadata):
                self._answer(
                    200,
                    f"<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>{escape(key)}</Key>"
                    "<ETag>x</ETag></CompleteMultipartUploadResult>".encode(),
                )
        else:  # delete
            for name in re.findall(r"<Key>(.*?)</Key>", body.decode()):
                self.bucket.objects.pop(name, None)
            self._answer(200, b"<DeleteResult></DeleteResult>")

    def do_GET(self) -> None:
        if self._begin() is None:
            return
        key, query = self._parts()
        if not key:
            prefix = query.get("prefix", [""])[0]
            listed = "".join(
                f"<Contents><Key>{escape(name)}</Key><Size>{len(content)}</Size><ETag>x</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for name, (content, _) in sorted(self.bucket.objects.items())
                if name.startswith(prefix)
            )
            self._answer(
                200,
                f"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>".encode(),
            )
        elif key in self.bucket.objects:
            content, metadata = self.bucket.objects[key]
            headers = {f"x-amz-meta-{name}": value for name, value in metadata.items()}
            self._answer(200, content, ETag='"x"', Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT", **headers)
        else:
            self._refuse(404, "NoSuchKey")

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        if self._begin() is None:
            return
        key, query = self._parts()
        if "uploadId" in query:
            self.bucket.uploads.pop(query["uploadId"][0], None)
        else:
            self.bucket.objects.pop(key, None)
        self._answer(204)


@contextmanager
def s3_server() -> Iterator[Bucket]:
    """A server on a free port of the loopback for as long as the block lasts."""
    bucket = Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"bucket": bucket}))
    server.daemon_threads = True
    bucket.endpoint = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
