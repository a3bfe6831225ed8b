"""A link becomes a file, or an error that says why; what is private is never even asked."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.errors import LinkRefused, LinkUnreachable, MediaLimitExceeded
from services.ingest import direct, sites
from services.ingest.addresses import Reach
from services.ingest.links import LinkLimits, fetch_link, is_link
from tests.support.links_server import VIDEO, Web, leads_to, never_ends, serves, status, web
from tests.support.toy_site import follow_toy, try_everything

LIMITS = LinkLimits(most_bytes=1 << 20, wall_s=20, idle_s=3, networks=(ipaddress.ip_network("127.0.0.1/32"),), sites=())
"""127.0.0.1 stands for the public internet; 127.0.0.2 is what lies behind it."""


@pytest.fixture
def public() -> Iterator[Web]:
    """A server that may be reached."""
    with web() as site:
        yield site


@pytest.fixture
def private() -> Iterator[Web]:
    """A server that may not."""
    with web("127.0.0.2") as site:
        site.answers["/secret.mp4"] = serves(b"secret" * 100)
        yield site


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def refused(link: str, tmp_path: Path, error: type[Exception], match: str, **changes: object) -> None:
    """It is an error of this kind, and nothing is left on the disk."""
    with pytest.raises(error, match=match):
        await fetch_link(link, scratch=tmp_path, limits=replace(LIMITS, **changes))
    assert list(tmp_path.iterdir()) == []


async def test_a_link_to_a_file_becomes_that_file(public, tmp_path):
    public.answers["/clip.mp4"] = serves(VIDEO)
    path = await fetch_link(public.link("/clip.mp4"), scratch=tmp_path, limits=LIMITS)
    assert path.read_bytes() == VIDEO
    assert left(tmp_path) == [str(path.relative_to(tmp_path))]
    assert public.asked == [("/clip.mp4", f"127.0.0.1:{public.port}")]


@pytest.mark.parametrize("kind", ["application/octet-stream", "video/webm; codecs=vp9", "application/mp4"])
async def test_a_file_may_be_served_as_bytes_if_its_name_says_video(public, tmp_path, kind):
    public.answers["/clip.webm?x=1"] = serves(VIDEO, kind)
    path = await fetch_link(public.link("/clip.webm?x=1"), scratch=tmp_path, limits=LIMITS)
    assert path.read_bytes() == VIDEO


async def test_a_page_of_no_known_site_is_taken_if_it_is_served_as_a_video_and_never_searched(public, tmp_path):
    page = f'<video src="{public.link("/clip.mp4")}">'.encode()
    public.answers |= {"/play": serves(VIDEO), "/page": serves(page, "text/html"), "/clip.mp4": serves(VIDEO)}
    path = await fetch_link(public.link("/play"), scratch=tmp_path, limits=replace(LIMITS, sites=("default",)))
    assert path.read_bytes() == VIDEO
    shutil.rmtree(path.parent)
    await refused(public.link("/page"), tmp_path, LinkRefused, "served as text/html", sites=("default",))
    assert [asked for asked, _ in public.asked] == ["/play", "/page"]


async def test_without_leave_loopback_is_refused_and_not_asked(public, tmp_path):
    public.answers["/clip.mp4"] = serves(VIDEO)
    await refused(public.link("/clip.mp4"), tmp_path, LinkRefused, "public internet", networks=())
    assert public.asked == []


async def test_a_redirect_into_the_house_is_refused_and_the_house_is_not_asked(public, private, tmp_path):
    public.answers["/a.mp4"] = leads_to(private.link("/secret.mp4"))
    await refused(public.link("/a.mp4"), tmp_path, LinkRefused, r"127\.0\.0\.2")
    assert private.asked == []


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4", "http://me:pw@127.0.0.1/a.mp4"])
async def test_a_redirect_elsewhere_than_the_web_is_refused(public, tmp_path, where):
    public.answers["/a.mp4"] = leads_to(where)
    await refused(public.link("/a.mp4"), tmp_path, LinkRefused, "only http and https|name or password")


async def test_three_redirects_are_followed_and_a_fourth_is_not(public, tmp_path):
    for step in range(4):
        public.answers[f"/{step}"] = leads_to(f"/{step + 1}", 301 + step % 2)
    public.answers["/4"] = serves(VIDEO)
    path = await fetch_link(public.link("/1"), scratch=tmp_path, limits=LIMITS)
    assert path.read_bytes() == VIDEO
    shutil.rmtree(path.parent)
    await refused(public.link("/0"), tmp_path, LinkRefused, "more than 3 times")


@pytest.mark.parametrize(
    ("link", "match"),
    [
        ("ftp://example.org/a.mp4", "only http"),
        ("http:///a.mp4", "only http"),
        ("http://me:pw@example.org/a.mp4", "name or password"),
        ("http://1.1.1.1:25/a.mp4", "port 25"),
        ("http://1.1.1.1:x/a.mp4", "no link"),
        ("http://example.org/a b.mp4", "characters"),
        ("http://example.org/a\r\nX: y.mp4", "characters"),
        ("http://example.org/" + "a" * 3000, "too long"),
        ("http://[::ffff:169.254.169.254]/a.mp4", "public internet"),
        ("http://0x7f000001/a.mp4", "public internet"),
    ],
)
async def test_a_link_that_is_none_of_the_public_web_is_refused(tmp_path, link, match):
    await refused(link, tmp_path, LinkRefused, match, networks=())


async def test_what_is_no_whole_video_says_why(public, tmp_path):
    public.answers |= {
        "/short.mp4": serves(VIDEO, declared=len(VIDEO) + 1),
        "/zip.mp4": serves(VIDEO, Content_Encoding="gzip"),
        "/none.mp4": serves(b""),
        "/no.mp4": status(403),
    }
    await refused(public.link("/short.mp4"), tmp_path, LinkUnreachable, "ended after 102400 of 102401")
    await refused(public.link("/zip.mp4"), tmp_path, LinkRefused, "compressed")
    await refused(public.link("/none.mp4"), tmp_path, LinkUnreachable, "no file")
    await refused(public.link("/no.mp4"), tmp_path, LinkUnreachable, "answers 403")
    await refused("http://127.0.0.1:9/a.mp4", tmp_path, LinkUnreachable, "[Rr]efused")


async def test_too_much_is_cut_off_declared_or_not(public, tmp_path):
    public.answers |= {"/big.mp4": serves(b"", declared=2 << 20), "/endless.mp4": never_ends(bytes(65536), pause_s=0)}
    await refused(public.link("/big.mp4"), tmp_path, MediaLimitExceeded, "2097152, at most 1048576")
    await refused(public.link("/endless.mp4"), tmp_path, MediaLimitExceeded, "at most 1048576")


async def test_a_server_that_drips_is_left_and_so_is_one_that_takes_for_ever(public, tmp_path):
    public.answers["/drip.mp4"] = never_ends(b"x", pause_s=0.1)
    drip = public.link("/drip.mp4")
    await refused(drip, tmp_path, LinkUnreachable, "slower than 1000 bytes", rate_bytes_s=1000, rate_over_s=0.4)
    await refused(drip, tmp_path, LinkUnreachable, "longer than 0.7 s", wall_s=0.7)


async def test_cancelling_ends_the_fetch_and_leaves_nothing(public, tmp_path):
    public.answers["/drip.mp4"] = never_ends(b"x", pause_s=0.1)
    task = asyncio.create_task(fetch_link(public.link("/drip.mp4"), scratch=tmp_path, limits=LIMITS))
    await asyncio.to_thread(public.was_asked.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


def resolver(address: str, asked: list[str]) -> Callable[..., list[tuple]]:
    """A resolver that answers once, and then with another address: it was asked twice too often."""

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address if len(asked) == 1 else "127.0.0.2", port))]

    return getaddrinfo


def test_a_name_is_resolved_once_and_asked_under_its_own_name(public, tmp_path, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", resolver("127.0.0.1", asked))
    public.answers["/a.mp4"] = serves(VIDEO)
    link = f"http://video.test:{public.port}/a.mp4"
    direct.fetch(link, tmp_path / "a", Reach.of(["127.0.0.1/32"]), most_bytes=1 << 20, idle_s=3)
    assert asked == ["video.test"]
    assert public.asked == [("/a.mp4", f"video.test:{public.port}")]


def test_over_tls_the_certificate_must_be_the_names_own(tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=video.test"
    making += f" -addext subjectAltName=DNS:video.test -keyout {key} -out {certificate}"
    subprocess.run(making.split(), check=True, capture_output=True, timeout=10)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    named: list[str | None] = []
    context.sni_callback = lambda _, name, __: named.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with web(wrap=lambda plain: context.wrap_socket(plain, server_side=True)) as site:
        site.answers["/a.mp4"] = serves(VIDEO)
        for host in ("video.test", "other.test"):
            monkeypatch.setattr(socket, "getaddrinfo", resolver("127.0.0.1", []))
            link = f"https://{host}:{site.port}/a.mp4"
            out = tmp_path / host
            if host == "video.test":
                direct.fetch(link, out, Reach.of(["127.0.0.1/32"]), most_bytes=1 << 20, idle_s=3)
                assert out.read_bytes() == VIDEO
            else:
                with pytest.raises(LinkUnreachable, match="certificate"):
                    direct.fetch(link, out, Reach.of(["127.0.0.1/32"]), most_bytes=1 << 20, idle_s=3)
    assert named == ["video.test", "other.test"]


async def follow(link: str, tmp_path: Path) -> Path:
    return await fetch_link(link, scratch=tmp_path, limits=LIMITS, follow_it=follow_toy)


async def test_a_video_of_a_site_becomes_a_file_under_a_name_of_ours(public, tmp_path):
    public.answers["/media"] = serves(VIDEO)
    path = await follow(public.link("/watch#") + public.link("/media"), tmp_path)
    assert path.read_bytes() == VIDEO
    assert left(tmp_path) == [f"{path.parent.name}/video.mp4"]


@pytest.mark.parametrize("way", ["media", "redirect", "segment"])
async def test_a_site_that_points_into_the_house_is_refused_by_every_way(public, private, tmp_path, way):
    segment = private.link("/secret.mp4")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n".encode()
    public.answers |= {"/hop": leads_to(segment), "/list.m3u8": serves(playlist, "application/vnd.apple.mpegurl")}
    media = {"media": segment, "redirect": public.link("/hop"), "segment": public.link("/list.m3u8")}[way]
    with pytest.raises(LinkRefused, match=r"127\.0\.0\.2"):
        await follow(public.link("/watch#") + media, tmp_path)
    assert private.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "match"), [("live", "it is live"), ("long", "longer than 7200 s")])
async def test_what_is_live_or_too_long_is_refused_before_it_is_fetched(public, tmp_path, kind, match):
    with pytest.raises(LinkRefused, match=match):
        await follow(public.link("/watch#") + public.link(f"/media?{kind}"), tmp_path)
    assert public.asked == []


async def test_a_site_that_sends_without_end_is_cut_off(public, tmp_path):
    public.answers["/media"] = never_ends(bytes(65536), pause_s=0)
    with pytest.raises(MediaLimitExceeded):
        await follow(public.link("/watch#") + public.link("/media"), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_the_child_may_do_what_fetching_takes_and_nothing_else(tmp_path):
    path = await fetch_link("http://example.org/", scratch=tmp_path, limits=LIMITS, follow_it=try_everything)
    refusals = ["program", "shell", "fork", "private", "metadata", "local", "name", "datagram", "listen", "beside"]
    assert path.read_text().split() == refusals


def test_known_sites_are_known_by_their_links_and_any_page_is_none(tmp_path):
    told = {"most_bytes": 1, "most_s": 1, "idle_s": 1.0}
    ydl = sites.downloader(sites.options(tmp_path, sites=["default"], **told))
    assert sites.knows(ydl, "https://www.youtube.com/watch?v=BaW_jenozKc")
    assert sites.knows(ydl, "https://vimeo.com/56015672")
    for link in ("http://example.org/", "https://example.org/a.m3u8", "http://127.0.0.1/", "file:///etc/passwd"):
        assert not sites.knows(ydl, link)
    assert not any(key.lower() == "generic" for key in ydl._ies)


def test_what_is_a_link_is_told_from_a_path():
    assert [is_link(text) for text in ("https://x/y", "HTTP://x", "a.mp4", "http.mp4", "ftp://x")] == [True] * 2 + [
        False
    ] * 3
