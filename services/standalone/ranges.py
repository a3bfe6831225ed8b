"""Ranges of time as people type them to this command: read as every client reads them, refused as this one refuses."""

from __future__ import annotations

from collections.abc import Sequence

from masquerade.command import ranges
from masquerade.command.misread import Misread
from masquerade.command.ranges import Range as Range
from services.common.errors import InvalidSpec


def parse_ranges(texts: Sequence[str], *, option: str) -> tuple[Range, ...]:
    """All ranges of one option, in the order of time.

    Raises:
        InvalidSpec: one cannot be read, ends before it begins, or begins before the one in front of it has ended.
    """
    try:
        return ranges.parse_ranges(texts, option=option)
    except Misread as error:
        raise InvalidSpec(field=error.field, problem=error.problem, remedy=error.remedy) from None


def parse_range(text: str, *, option: str) -> Range:
    """One range; either end may be left out.

    Raises:
        InvalidSpec: it cannot be read.
    """
    return parse_ranges([text], option=option)[0]
