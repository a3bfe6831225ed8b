"""Ranges of time as people type them: `A:B`, half-open, in seconds or [hh:]mm:ss.mmm after the first frame."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from masquerade.command.misread import Misread

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,3})?")
_SIXTIETHS = 60
SAME_FORM = "write both ends the same way: 5:12.5, 01:30:02:00 or 00:01:30:00:02:00"


@dataclass(frozen=True, slots=True)
class Range:
    """Milliseconds after the first frame; no end means the end of the video."""

    start_ms: int
    end_ms: int | None


def parse_ranges(texts: Sequence[str], *, option: str) -> tuple[Range, ...]:
    """All ranges of one option, in the order of time.

    Raises:
        Misread: one cannot be read, ends before it begins, or begins before the one in front of it has ended.
    """
    ranges = sorted((parse_range(text, option=option) for text in texts), key=lambda each: each.start_ms)
    for before, after in itertools.pairwise(ranges):
        if before.end_ms is None or before.end_ms > after.start_ms:
            raise Misread(option, "two ranges overlap", "make one range of them, or move an end")
    return tuple(ranges)


def parse_range(text: str, *, option: str) -> Range:
    """One range. Either end may be left out: `:5` is the first five seconds, `5:` all after them.

    The colon stands between the ends and inside them; which is which follows from how many there are, because both
    ends are written in the same way.
    """
    begin, end = _ends(text.strip().split(":"), text=text, option=option)
    start_ms = _milliseconds(begin, text=text, option=option) if begin else 0
    end_ms = _milliseconds(end, text=text, option=option) if end else None
    if end_ms is not None and end_ms <= start_ms:
        raise Misread(option, f"{text!r} ends before it begins", SAME_FORM)
    return Range(start_ms, end_ms)


def _ends(parts: list[str], *, text: str, option: str) -> tuple[list[str], list[str]]:
    """The parts of the first and of the second end; none for an end that was left out."""
    if len(parts) == 2 and parts != ["", ""]:
        return parts[:1] if parts[0] else [], parts[1:] if parts[1] else []
    if parts[-1] == "" and 3 <= len(parts) <= 4:
        return parts[:-1], []
    if parts[0] == "" and 3 <= len(parts) <= 4:
        return [], parts[1:]
    if len(parts) in (4, 6):
        return parts[: len(parts) // 2], parts[len(parts) // 2 :]
    raise Misread(option, f"{text!r} is no range", SAME_FORM)


def _milliseconds(parts: list[str], *, text: str, option: str) -> int:
    """Of one end: seconds, or minutes and seconds, or hours, minutes and seconds."""
    *higher, seconds = parts
    is_number = _SECONDS.fullmatch(seconds) and all(part.isascii() and part.isdecimal() for part in higher)
    if not is_number:
        raise Misread(option, f"{text!r} holds something that is no time to the millisecond", SAME_FORM)
    whole = Decimal(seconds)
    if higher and (whole >= _SIXTIETHS or any(int(part) >= _SIXTIETHS for part in higher[1:])):
        raise Misread(option, f"{text!r} has sixty or more where a clock has less", SAME_FORM)
    for power, part in enumerate(reversed(higher), start=1):
        whole += int(part) * _SIXTIETHS**power
    return int(whole * 1000)
