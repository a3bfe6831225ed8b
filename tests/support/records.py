"""Records for a test: in a file of its own, empty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.records.database import Records


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Records]:
    """Open, with tables and no rows."""
    opened = Records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    await opened.open()
    yield opened
    await opened.close()
