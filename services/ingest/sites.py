"""A video of a site, by the link of its page: yt-dlp as a library, with all that it offers beyond that shut.

Runs in a guarded child (`guarding.py`): only the guard makes it safe to hand yt-dlp a stranger's link, since what it
follows from there (redirects, manifests, segments) is its own affair.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from services.common.errors import LinkRefused, LinkUnreachable, MediaLimitExceeded

NAME: Final = "video"
GENERIC: Final = "generic"
"""The extractor that opens any page and follows what it finds there; never allowed."""

_FORMAT: Final = "b[protocol^=http]/b[protocol^=m3u8_native]/b"
"""One file with sound and picture: putting two together takes a program, and none is run."""


class Quiet:
    """yt-dlp's words go nowhere: its errors rise as exceptions."""

    def debug(self, _: str) -> None:
        """Nothing."""

    info = warning = error = debug


def options(folder: Path, *, sites: Sequence[str], most_bytes: int, most_s: int, idle_s: float) -> dict[str, Any]:
    """What yt-dlp is told. No text of a user is in it."""

    def refuse_endless(info: dict[str, Any], *, incomplete: bool = False) -> None:
        if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
            raise _RefusedError("it is live")
        if (info.get("duration") or 0) > most_s:
            raise _RefusedError(f"it is longer than {most_s} s")

    return {
        "allowed_extractors": [*sites, f"-{GENERIC}"],
        "noplaylist": True,
        "playlist_items": "1",
        "match_filter": refuse_endless,
        "format": _FORMAT,
        "max_filesize": most_bytes,
        "paths": {"home": str(folder)},
        # Nothing of the site's own words is in the name.
        "outtmpl": {"default": f"{NAME}.%(ext)s"},
        "restrictfilenames": True,
        "nopart": True,
        "updatetime": False,
        "cachedir": False,
        "cookiefile": None,
        "usenetrc": False,
        "proxy": "",
        "socket_timeout": idle_s,
        "retries": 2,
        "fragment_retries": 2,
        "extractor_retries": 1,
        "concurrent_fragment_downloads": 1,
        "external_downloader": {"default": "native"},
        "hls_prefer_native": True,
        "postprocessors": [],
        "fixup": "never",
        "js_runtimes": {},
        "remote_components": [],
        "ignoreerrors": False,
        "quiet": True,
        "noprogress": True,
        "no_warnings": True,
        "logger": Quiet(),
    }


def downloader(told: dict[str, Any]) -> Any:
    """yt-dlp, without plugins: they would be code from wherever Python looks."""
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    from yt_dlp import YoutubeDL
    from yt_dlp.globals import plugin_dirs

    plugin_dirs.value = []
    return YoutubeDL(told, auto_init=True)


def knows(ydl: Any, link: str) -> bool:
    """Whether one of the allowed sites takes this link; nothing is fetched for it."""
    return any(
        extractor.suitable(link)
        for key, extractor in ydl._ies.items()
        if key.lower() not in (GENERIC, "unsupportedurl")
    )


def download(ydl: Any, link: str, *, most_bytes: int) -> None:
    """Fetch the video into the folder that the options name.

    Raises:
        LinkRefused: it is live, too long, a list, or not offered as one file.
        LinkUnreachable: the site does not give it.
        MediaLimitExceeded: it is too large.
    """
    from yt_dlp.utils import YoutubeDLError

    def watch(progress: dict[str, Any]) -> None:
        # `max_filesize` looks at what a server declares; this at what came.
        if (progress.get("downloaded_bytes") or 0) > most_bytes:
            raise _TooLargeError

    ydl.add_progress_hook(watch)
    try:
        failed = ydl.download([link])
    except _TooLargeError:
        raise MediaLimitExceeded(path=link, limit="bytes", most=most_bytes) from None
    except _RefusedError as refusal:
        raise LinkRefused(link=link, problem=str(refusal)) from None
    except YoutubeDLError as problem:
        raise LinkUnreachable(link=link, detail=_plain(problem)) from problem
    if failed:
        raise LinkUnreachable(link=link, detail="the site did not give it")


class _TooLargeError(Exception):
    """Not one of yt-dlp's own, so that it does not try again."""


class _RefusedError(Exception):
    """We do not want this video; yt-dlp's own exception for that loses its words."""


def _plain(problem: Exception) -> str:
    """What it said, without colours and in one line: some of the words are the site's."""
    text = str(getattr(problem, "msg", None) or problem).replace("\x1b[0;31mERROR:\x1b[0m", "").removeprefix("ERROR:")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
