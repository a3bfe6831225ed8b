"""Fetching from a publisher's address: by digest, going on where it stopped. The publisher is a thread of the test."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.common.errors import ModelDigestMismatch, RegistryUnreachable
from services.standalone.models import publisher
from services.standalone.models.publisher import fetch_file
from services.standalone.models.pull import pull

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Shelf(ThreadingHTTPServer):
    """What is offered, what was asked, and after how many bytes an answer breaks off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.breaks_after: int | None = None

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Answer(BaseHTTPRequestHandler):
    """One answer of the shelf."""

    server: Shelf

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        content = self.server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : self.server.breaks_after])

    def log_message(self, *_) -> None:
        """Silence."""


@pytest.fixture
def shelf(monkeypatch) -> Iterator[Shelf]:
    """A publisher that offers `weights.onnx`."""
    monkeypatch.setattr(publisher, "_SCHEMES", ("http",))
    with Shelf() as server:
        server.files["weights.onnx"] = CONTENT
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def fetch(shelf: Shelf, cache: Path, *, name: str = "weights.onnx", told: list | None = None) -> Path:
    told = [] if told is None else told
    return fetch_file(
        shelf.url(name),
        sha256=DIGEST,
        model="small",
        cache=cache,
        progress=lambda done, total: told.append((done, total)),
    )


def test_a_file_is_fetched_once_and_kept_by_its_digest(shelf, tmp_path):
    told: list[tuple[int, int]] = []
    assert fetch(shelf, tmp_path, told=told).read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(shelf, tmp_path).name == f"{DIGEST}.onnx"
    assert shelf.ranges == [None]


def test_a_fetch_that_broke_off_goes_on_where_it_stopped(shelf, tmp_path):
    shelf.breaks_after = 300_000
    with pytest.raises(RegistryUnreachable, match="broke off"):
        fetch(shelf, tmp_path)
    shelf.breaks_after = None
    assert fetch(shelf, tmp_path).read_bytes() == CONTENT
    assert shelf.ranges == [None, "bytes=300000-"]


def test_a_fetch_that_broke_off_after_the_last_byte_is_complete(shelf, tmp_path):
    (tmp_path / f"{DIGEST}.part").write_bytes(CONTENT)
    assert fetch(shelf, tmp_path).read_bytes() == CONTENT


def test_other_bytes_are_refused_and_do_not_spoil_the_next_try(shelf, tmp_path):
    shelf.files["weights.onnx"] = CONTENT[::-1]
    with pytest.raises(ModelDigestMismatch):
        fetch(shelf, tmp_path)
    assert list(tmp_path.iterdir()) == []
    shelf.files["weights.onnx"] = CONTENT
    assert fetch(shelf, tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_not_offered_any_more_is_told(shelf, tmp_path):
    with pytest.raises(RegistryUnreachable, match="404"):
        fetch(shelf, tmp_path, name="gone.onnx")


def test_an_address_without_tls_is_not_used(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(publisher, "_SCHEMES", ("https",))
    with pytest.raises(RegistryUnreachable, match="http addresses"):
        fetch(shelf, tmp_path)
    assert shelf.ranges == []


@pytest.mark.parametrize("source", ["by itself", "in an archive"])
def test_a_profile_takes_what_it_may_and_says_why_it_left_the_rest(shelf, tmp_path, source):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("w.onnx", CONTENT)
    shelf.files["pack.zip"] = packed.getvalue()
    archive_digest = hashlib.sha256(packed.getvalue()).hexdigest()
    for name, commercial_use in (("free", "true"), ("bound", "false")):
        (tmp_path / name).mkdir()
        where = (
            f'[[files]]\npath = "1/model.onnx"\nsha256 = "{DIGEST}"\nurl = "{shelf.url("weights.onnx")}"\n'
            if source == "by itself"
            else f'[source.archive]\nurl = "{shelf.url("pack.zip")}"\nsha256 = "{archive_digest}"\n'
            f'[[files]]\npath = "1/model.onnx"\nsha256 = "{DIGEST}"\nmember = "w.onnx"\nmember_sha256 = "{DIGEST}"\n'
        )
        (tmp_path / name / "model.toml").write_text(
            f'profile = "studio"\nsummary = "S."\n[licence]\nname = "L"\ncommercial_use = {commercial_use}\n'
            f'notice = ""\n[source]\npublisher = "P"\n{where}'
        )
    assert [(model.model.name, model.state) for model in pull("studio", tmp_path)] == [
        ("bound", "forbidden"),
        ("free", "ready"),
    ]
    assert not (tmp_path / "bound" / "1").exists()
    assert [model.state for model in pull("studio", tmp_path, policy="research")] == ["ready", "ready"]
    assert len(shelf.ranges) == 1
