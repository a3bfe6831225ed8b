"""Logs as JSON lines on standard error: one object a line, ids as fields, never pixels.

Fields that hold for everything below a call (the job, the segment) are set once with `log_fields` and travel to peers
as metadata; a record's own come from `extra={...}`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TextIO

TRAVELLING = ("job", "segment")
"""Fields that go to peers with each call."""

TEXT_AT_MOST = 2000

_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextlib.contextmanager
def log_fields(**fields: str | int | None) -> Iterator[None]:
    """Put these fields on every record that is logged below."""
    before = _fields.get()
    set_log_fields(**fields)
    try:
        yield
    finally:
        _fields.set(before)


def set_log_fields(**fields: str | int | None) -> None:
    """Put these fields on every record that this task logs from now on."""
    _fields.set({**_fields.get(), **{name: str(value) for name, value in fields.items() if value is not None}})


def current_log_fields() -> Mapping[str, str]:
    """The fields that hold here."""
    return _fields.get()


class JsonLines(logging.Formatter):
    """A record as one JSON object."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage()[:TEXT_AT_MOST],
            **_fields.get(),
        }
        line |= {name: _plain(value) for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """Numbers and short texts as they are; what could be a picture or a face by its size alone."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if hasattr(value, "shape"):
        return f"<array {tuple(value.shape)}>"
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in list(value.items())[:50]}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value[:20]]
    return str(value)[:TEXT_AT_MOST]


def configure_logs(*, service: str, level: str, stream: TextIO | None = None) -> None:
    """Send all logs of the process to one stream as JSON lines; called once, by the process's `main`."""
    lines = logging.StreamHandler(stream or sys.stderr)
    lines.setFormatter(JsonLines(service))
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(level)
