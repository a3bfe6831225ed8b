"""Files that a job names, held against what is done with them: their kind, and ranges of time in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from services.common.errors import RangeOutsideVideo, Violation
from services.orchestrator.checks.looks import Looks
from services.orchestrator.spec import JobSpec, TimeRange

DOUBT_MS: Final = 1000.0
"""A video's headers are believed about ranges that begin so long before the end; for others its frames are counted."""


async def of_media(spec: JobSpec, looks: Looks, *, tenant: str) -> list[Violation]:
    """Everything that the files do not allow. What cannot be found out in time is left to the job."""
    background, ranges = await asyncio.gather(_of_background(spec, looks), _of_ranges(spec, looks, tenant))
    return [*background, *ranges]


async def _of_background(spec: JobSpec, looks: Looks) -> list[Violation]:
    behind = spec.background
    if behind.kind not in {"image", "video"} or not behind.asset_key:
        return []
    look = await looks.look(behind.asset_key)
    if look is None or (look.is_picture if behind.kind == "image" else look.is_video):
        return []
    found = "it is a video" if look.is_video else look.found
    wanted = "a picture: a JPEG, PNG or WebP file" if behind.kind == "image" else "a video"
    return [Violation("spec.background.asset_id", f"is to be {wanted} ({found})")]


async def _of_ranges(spec: JobSpec, looks: Looks, tenant: str) -> list[Violation]:
    begins = [each.start_ms for each in (*spec.keep, *spec.apply)]
    if not begins or not spec.asset_key:
        return []
    look = await looks.look(spec.asset_key)
    if look is None:
        return []
    if look.is_video and max(begins) >= look.duration_ms - DOUBT_MS:
        look = await looks.count(spec.asset_key, tenant=tenant)
    if look is None:
        return []
    if not look.is_video:
        return [Violation("spec.asset_id", f"is to be a video ({look.found})")]
    return [*_outside(spec.keep, "keep", look.duration_ms), *_outside(spec.apply, "apply", look.duration_ms)]


def _outside(ranges: tuple[TimeRange, ...], path: str, duration_ms: float) -> Iterator[Violation]:
    for number, each in enumerate(ranges):
        if each.start_ms >= duration_ms:
            end = "" if each.end_ms is None else f"{each.end_ms / 1000:g}"
            error = RangeOutsideVideo(range=f"{each.start_ms / 1000:g}:{end}", duration=f"{duration_ms / 1000:.3f} s")
            yield Violation(f"spec.{path}[{number}]", f"{error.reason}: {error.text()}")
