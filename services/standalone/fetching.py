"""An input that is a link becomes a file, for as long as the command runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from masquerade.command.progress import view
from services.common.errors import OutputUnwritable
from services.ingest.links import fetch_link, is_link
from services.standalone.cli.ending import run
from services.standalone.settings import StandaloneSettings

FOLDER = "links"
"""In the data folder, and not its scratch: that is emptied when the services start."""


@contextmanager
def on_disk(source: str, settings: StandaloneSettings, flags: Mapping[str, object]) -> Iterator[Path]:
    """The file that an input names; a link's is fetched, and removed when the block ends.

    Args:
        source: a path or a link, as it was typed.
        settings: the command's.
        flags: for ingest's own settings: how far links are followed.

    Raises:
        LinkRefused, LinkUnreachable, MediaLimitExceeded: the link gives no file.
    """
    if not is_link(source):
        yield Path(source)
        return
    # A plain file needs none of what ingest's settings bring.
    from services.ingest.settings import IngestSettings

    folder = settings.data / FOLDER
    limits = IngestSettings.load(flags).link_limits()
    _clear(folder, older_than_s=limits.wall_s + settings.kept_hours * 3600)

    async def fetched() -> Path:
        with view() as shown:
            shown.say("fetching the video")
            return await fetch_link(source, scratch=folder, limits=limits)

    path = run(fetched)
    try:
        yield path
    finally:
        shutil.rmtree(path.parent, ignore_errors=True)


def _clear(folder: Path, *, older_than_s: float) -> None:
    """Make the folder; remove what commands left in it that were killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputUnwritable(path=str(folder), detail=error.strerror or str(error)) from error
    before = time.time() - older_than_s
    for left in folder.iterdir():
        if left.stat().st_mtime < before:
            shutil.rmtree(left, ignore_errors=True)
