"""Segments that are no longer what was stored: found when the file is put together, and rendered once more."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from services.orchestrator.failures import Failure, WorkFailed

log = logging.getLogger(__name__)

SPOILT: Final = frozenset({"OBJECT_CORRUPT", "OBJECT_MISSING"})


async def assembled(
    rendered: Sequence[Any],
    *,
    assemble: Callable[[Sequence[Any]], Awaitable[Any]],
    again: Callable[[], Awaitable[Sequence[Any]]],
) -> tuple[Any, Sequence[Any]]:
    """Put segments together; if one of them is spoilt, have all looked at and the spoilt ones rendered again, once.

    Args:
        rendered: answers of the renders, in order.
        assemble: puts segments together.
        again: asks for every segment once more. Whole ones are found, and what is spoilt is replaced under its key.

    Returns:
        The answer of the assembling, and those of the renders that it is made of.

    Raises:
        WorkFailed: something else is wrong, or still is.
    """
    try:
        return await assemble(rendered), rendered
    except WorkFailed as error:
        if not _is_of(error.failure, rendered):
            raise
        log.warning("a segment is spoilt and is rendered again", extra={"fields": error.failure.fields})
    answers = await again()
    # Found ones keep their first answer: they were rendered in this attempt, or were found in it before.
    mended = [old if new["reused"] else new for old, new in zip(rendered, answers, strict=True)]
    return await assemble(mended), mended


def _is_of(failure: Failure, rendered: Sequence[Any]) -> bool:
    """Whether it is about one of these segments, and not about the source or the index."""
    keys = {answer["segment"]["key"] for answer in rendered}
    return failure.reason in SPOILT and failure.fields.get("key") in keys
