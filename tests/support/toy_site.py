"""What runs in a link's child in tests: a site that exists nowhere, and a child that tries what it may not."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.ingest import link_child, sites
from services.ingest.addresses import Reach
from services.ingest.guarding import Guard


def follow_toy(link: str, folder: str, rules: Mapping[str, Any]) -> None:
    """As `link_child.follow`, with one site more: its videos lie where the part behind `#` of the link says."""
    guard = Guard(Path(folder), Reach.of(rules["networks"]), link=link)
    guard.stand()
    told = {name: rules[name] for name in ("most_bytes", "most_s", "idle_s")}
    ydl = sites.downloader(sites.options(Path(folder), sites=["youtube"], **told))
    from yt_dlp.extractor.common import InfoExtractor

    class ToyIE(InfoExtractor):
        _VALID_URL = r"https?://127\.0\.0\.1:\d+/watch#(?P<id>.+)"

        def _real_extract(self, url: str) -> dict[str, Any]:
            media = self._match_id(url)
            formats = (
                self._extract_m3u8_formats(media, "x", "mp4", entry_protocol="m3u8_native")
                if media.endswith(".m3u8")
                else [{"url": media, "ext": "mp4", "format_id": "0"}]
            )
            told = {"?live": {"is_live": True}, "?long": {"duration": 10**6}}.get(media[-5:], {})
            return {"id": "../../x", "title": "../../-x", "formats": formats, **told}

    ydl.add_info_extractor(ToyIE())
    assert sites.knows(ydl, link)
    link_child.follow_site(ydl, link, guard, most_bytes=rules["most_bytes"])


def try_everything(link: str, folder: str, rules: Mapping[str, Any]) -> None:
    """Write into the file what was refused, one word a line."""
    Guard(Path(folder), Reach.of(rules["networks"]), link=link).stand()
    refused = []
    attempts = {
        "program": lambda: subprocess.run(["true"], check=True),
        "shell": lambda: os.system("true"),
        "fork": os.fork,
        "private": lambda: socket.create_connection(("127.0.0.2", 80), timeout=1),
        "metadata": lambda: socket.create_connection(("169.254.169.254", 80), timeout=1),
        "local": lambda: socket.socket(socket.AF_UNIX).connect("/nowhere"),
        "name": lambda: socket.socket().connect(("localhost", 80)),
        "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 53)),
        "listen": lambda: socket.socket().bind(("127.0.0.1", 0)),
        "beside": lambda: Path(folder, "..", "x").write_text("x"),
        "inside": lambda: Path(folder, "y").write_text("y"),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except PermissionError:
            refused.append(name)
    Path(folder, "y").write_text("\n".join(refused))
