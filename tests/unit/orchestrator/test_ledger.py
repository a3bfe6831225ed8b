"""Finished segments on their way into the book."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.records.database import Records
from services.common.records.tables import job_events
from services.orchestrator.ledger import BookLedger
from services.orchestrator.progress import JobState, Snapshot
from tests.support.book import made


async def test_a_segment_that_ends_while_others_are_written_down_is_written_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    await records.open()
    try:
        job = await made(records, "a")
        ledger = BookLedger(records)
        write = records.write

        async def slow_write(work: Callable[[sa.Connection], Any]) -> Any:
            answer = await write(work)
            monkeypatch.setattr(records, "write", write)
            # Not written yet when this one ends.
            ledger.finished(job.id, Snapshot(JobState.RENDERING, 16, 32))
            return answer

        monkeypatch.setattr(records, "write", slow_write)
        ledger.finished(job.id, Snapshot(JobState.RENDERING, 8, 32))
        await ledger.flush(job.id)
        await ledger.flush(job.id)
        chosen = sa.select(job_events.c.frames_done).where(job_events.c.state == int(JobState.RENDERING))
        done = await records.read(lambda connection: connection.execute(chosen).scalars().all())
        assert sorted(done) == [8, 16]
        await ledger.close()
    finally:
        await records.close()
