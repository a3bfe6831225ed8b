"""What could not be kept exactly: said in the report, never in silence."""

from __future__ import annotations


class Remarks:
    """Sentences for the report, each once, in the order in which they were made."""

    def __init__(self) -> None:
        self._said: dict[str, None] = {}

    def add(self, sentence: str) -> None:
        """Say it, unless it was said."""
        self._said[sentence] = None

    def all(self) -> list[str]:
        """Everything said."""
        return list(self._said)
