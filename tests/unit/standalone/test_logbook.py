"""The data folder's log: what it holds, and for how long."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.standalone.logbook import NAME, drop_old_lines, logged_in

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def line(days_ago: float, text: str) -> str:
    return json.dumps({"time": (NOW - timedelta(days=days_ago)).isoformat(), "message": text}) + "\n"


def test_lines_that_are_too_old_go_with_what_hangs_on_them(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(
        line(40, "old") + "  a trace of the old one\n" + line(29, "young") + "  its trace\n" + line(1, "new")
    )
    drop_old_lines(path, before=NOW - timedelta(days=30))
    assert path.read_text() == line(29, "young") + "  its trace\n" + line(1, "new")


def test_a_log_that_is_young_or_absent_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(line(1, "new"))
    before = path.stat().st_ino
    drop_old_lines(path, before=NOW - timedelta(days=30))
    drop_old_lines(tmp_path / "absent", before=NOW)
    assert path.stat().st_ino == before


def test_a_log_of_old_lines_alone_is_empty_and_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(json.dumps({"time": "2020-01-01T00:00:00+00:00", "message": "old"}) + "\n")
    with logged_in(tmp_path, level="INFO", days=30):
        logging.getLogger("test").info("here")
    assert [json.loads(each)["message"] for each in path.read_text().splitlines()] == ["here"]
