"""Fixtures of all tests: what is dear to start and is shared by a whole session, and what many files want."""

from __future__ import annotations

import pytest

from tests.support.postgres import postgres
from tests.support.records import records

__all__ = ["postgres", "records"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: tests run in several processes, and whose file is the last works alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
