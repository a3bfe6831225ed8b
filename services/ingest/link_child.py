"""What runs in the child that follows a link: guarded first, then one of the two ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.common.errors import LinkRefused, LinkUnreachable
from services.ingest import direct, sites
from services.ingest.addresses import Reach
from services.ingest.guarding import Guard


def follow(link: str, folder: str, rules: Mapping[str, Any]) -> None:
    """Put what the link leads to into the folder, as its only file.

    A link that ends like a file's name is fetched as it is; the page of a site that yt-dlp knows by its link is left to
    yt-dlp; anything else is fetched as it is and must be served as a video.

    Args:
        link: a stranger's words.
        folder: empty, and ours.
        rules: `LinkLimits.rules`.
    """
    guard = Guard(Path(folder), Reach.of(rules["networks"]), link=link)
    guard.stand()
    place = direct.place_of(link)
    if not place.looks_like_a_file and rules["sites"]:
        ydl = sites.downloader(
            sites.options(
                Path(folder),
                sites=rules["sites"],
                most_bytes=rules["most_bytes"],
                most_s=rules["most_s"],
                idle_s=rules["idle_s"],
            )
        )
        if sites.knows(ydl, link):
            follow_site(ydl, link, guard, most_bytes=rules["most_bytes"])
            return
    direct.fetch(
        link,
        Path(folder) / sites.NAME,
        Reach.of(rules["networks"]),
        most_bytes=rules["most_bytes"],
        idle_s=rules["idle_s"],
    )


def follow_site(ydl: Any, link: str, guard: Guard, *, most_bytes: int) -> None:
    """By yt-dlp; where the guard refused a connection that is the reason, whatever the library made of it."""
    try:
        sites.download(ydl, link, most_bytes=most_bytes)
    except (LinkRefused, LinkUnreachable) as problem:
        raise guard.refusal or problem from problem
