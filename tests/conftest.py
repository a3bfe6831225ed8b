"""Fixtures of all tests: what is dear to start and is shared by a whole session."""

from __future__ import annotations

from tests.support.postgres import postgres

__all__ = ["postgres"]
