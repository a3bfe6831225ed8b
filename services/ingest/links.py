"""A link to a video becomes a file of ours: followed in a child that is watched from outside and killed if need be."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.common.child import ChildLimits, run_in_child
from services.common.errors import DecoderDied, DecodeTimeout, LinkUnreachable, MediaLimitExceeded
from services.ingest import direct
from services.ingest.addresses import Network
from services.ingest.link_child import follow

MiB: Final = 1 << 20
_LOOK_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """How far a link is followed and what it may cost.

    Attributes:
        most_bytes: of the file; on disk a second part of it may lie for a moment.
        most_s: longest video, where a site says how long it is.
        wall_s: from the first look-up to the last byte.
        idle_s: longest wait for a connection, an answer or a byte.
        rate_bytes_s: least bytes a second, over every `rate_over_s`; the first such time is free, for pages.
        rate_over_s: seconds.
        memory_bytes: of the child.
        networks: allowed although they are not public.
        sites: yt-dlp's names of sites, as regular expressions; `default` is all, none is only plain files.
    """

    most_bytes: int = 4096 * MiB
    most_s: int = 2 * 60 * 60
    wall_s: float = 1800.0
    idle_s: float = 20.0
    rate_bytes_s: int = 16 << 10
    rate_over_s: float = 30.0
    memory_bytes: int = 1024 * MiB
    networks: tuple[Network, ...] = ()
    sites: tuple[str, ...] = ("default",)

    @property
    def rules(self) -> dict[str, Any]:
        """For the child, over the process border."""
        return {
            "most_bytes": self.most_bytes,
            "most_s": self.most_s,
            "idle_s": self.idle_s,
            "networks": [str(network) for network in self.networks],
            "sites": list(self.sites),
        }


def is_link(text: str) -> bool:
    """Whether an input is a link, not a path."""
    return text.lower().startswith(("http://", "https://"))


async def fetch_link(url: str, *, scratch: Path, limits: LinkLimits, follow_it: Callable[..., None] = follow) -> Path:
    """Fetch what a link leads to; answers the file, alone in a folder of its own below `scratch`.

    The file is the caller's to look at (it may be anything that was served as a video) and to remove with its folder.
    When this raises or is cancelled, nothing is left.

    Args:
        url: http or https.
        scratch: on a disk with room.
        limits: what it may cost.
        follow_it: what runs in the child; tests have others.

    Raises:
        LinkRefused: it leads where we do not go, or to no video.
        LinkUnreachable: nobody answers, too slowly, or not with a file.
        MediaLimitExceeded: it is too large.
    """
    direct.place_of(url)
    await asyncio.to_thread(scratch.mkdir, parents=True, exist_ok=True)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="link-", dir=scratch))
    try:
        await _watched(url, folder, limits, follow_it)
        return await asyncio.to_thread(_only_file, folder, url)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        raise


async def _watched(url: str, folder: Path, limits: LinkLimits, follow_it: Callable[..., None]) -> None:
    """Run the child and look at what it writes; the first of them that ends, ends the other."""
    bounds = ChildLimits(
        memory_bytes=limits.memory_bytes,
        cpu_s=max(60, int(limits.wall_s)),
        file_bytes=limits.most_bytes + MiB,
        wall_s=limits.wall_s,
    )
    child = asyncio.ensure_future(run_in_child(follow_it, url, str(folder), limits.rules, limits=bounds, about=url))
    watch = asyncio.ensure_future(_watch(url, folder, limits))
    try:
        await asyncio.wait({child, watch}, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()
        await child
    except DecodeTimeout as late:
        raise LinkUnreachable(link=url, detail=f"it took longer than {limits.wall_s:g} s") from late
    except DecoderDied as died:
        raise LinkUnreachable(link=url, detail=f"fetching ended by itself ({died.fields.get('how', '')})") from died
    finally:
        # Cancelling kills the child and waits until it is gone: only then may its folder be looked at or removed.
        for task in (child, watch):
            task.cancel()
        await asyncio.gather(child, watch, return_exceptions=True)


async def _watch(url: str, folder: Path, limits: LinkLimits) -> None:
    """Raise when too much lies in the folder, or when it grows too slowly; never return."""
    since, then = time.monotonic() + limits.rate_over_s, 0
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        size = await asyncio.to_thread(_size, folder)
        # Segments of a stream lie beside the file that they are put into.
        if size > limits.most_bytes + limits.most_bytes // 4 + MiB:
            raise MediaLimitExceeded(path=url, limit="bytes", most=limits.most_bytes)
        now = time.monotonic()
        if now - since >= limits.rate_over_s:
            if size - then < limits.rate_bytes_s * limits.rate_over_s:
                detail = f"it comes slower than {limits.rate_bytes_s} bytes a second"
                raise LinkUnreachable(link=url, detail=detail)
            since, then = now, size


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_size
    return total


def _only_file(folder: Path, url: str) -> Path:
    """The one file that there is; the child may have been talked into anything, so it is looked at."""
    found = [path for path in folder.iterdir() if stat.S_ISREG(path.lstat().st_mode)]
    if len(found) != 1 or found[0].stat().st_size == 0:
        raise LinkUnreachable(link=url, detail="no file came of it")
    return found[0]
