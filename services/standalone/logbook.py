"""Where the services' logs go while a command runs: into a file, so that the terminal stays readable."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from services.common.logs import configure_logs

NAME = "masquerade.log"
LARGEST_BYTES = 8 << 20
"""Beyond that a new file is begun, and one old one kept."""


@contextlib.contextmanager
def logged_in(folder: Path, *, level: str) -> Iterator[Path]:
    """Log to the folder's file until the block ends; gives its path."""
    path = folder / NAME
    if path.exists() and path.stat().st_size > LARGEST_BYTES:
        path.replace(path.with_suffix(".log.1"))
    root = logging.getLogger()
    before = list(root.handlers)
    with path.open("a", encoding="utf-8") as stream:
        configure_logs(service="standalone", level=level, stream=stream)
        try:
            yield path
        finally:
            root.handlers[:] = before
