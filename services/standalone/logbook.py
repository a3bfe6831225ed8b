"""Where the services' logs go while a command runs: into a file, so that the terminal stays readable."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.common.logs import configure_logs

NAME = "masquerade.log"
LARGEST_BYTES = 8 << 20
"""Beyond that a new file is begun, and one old one kept."""


@contextlib.contextmanager
def logged_in(folder: Path, *, level: str, days: float) -> Iterator[Path]:
    """Log to the folder's file until the block ends; gives its path. Older lines are dropped first."""
    path = folder / NAME
    if path.exists() and path.stat().st_size > LARGEST_BYTES:
        path.replace(path.with_suffix(".log.1"))
    for each in (path, path.with_suffix(".log.1")):
        drop_old_lines(each, before=datetime.now(UTC) - timedelta(days=days))
    root = logging.getLogger()
    before = list(root.handlers)
    with path.open("a", encoding="utf-8") as stream:
        configure_logs(service="standalone", level=level, stream=stream)
        try:
            yield path
        finally:
            root.handlers[:] = before


def drop_old_lines(path: Path, *, before: datetime) -> None:
    """Rewrite a log without the lines of an earlier time; lines that name no time go with the one above them."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return
    times = ((number, _time_of(line)) for number, line in enumerate(lines))
    first = next((number for number, time in times if time is not None and time >= before), len(lines))
    if not first:
        return
    writing = path.with_name(f".{path.name}.new")
    writing.write_text("".join(lines[first:]), encoding="utf-8")
    writing.replace(path)


def _time_of(line: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(json.loads(line)["time"])
    except (ValueError, KeyError, TypeError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
