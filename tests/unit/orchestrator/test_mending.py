"""Segments that are spoilt when the file is put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.orchestrator import mending
from services.orchestrator.failures import Failure, WorkFailed


def rendered(number: int, digest: str, *, reused: bool = False) -> Any:
    return {"segment": {"key": f"render/{number}", "digest": digest}, "reused": reused}


BEFORE = [rendered(0, "whole"), rendered(1, "spoilt"), rendered(2, "whole too")]


async def mended(*failures: Failure) -> tuple[list[Sequence[Any]], Sequence[Any]]:
    """What was put together, try after try; each failure stops one of them."""
    tries: list[Sequence[Any]] = []

    async def assemble(segments: Sequence[Any]) -> Any:
        tries.append(segments)
        if len(tries) <= len(failures):
            raise WorkFailed(failures[len(tries) - 1])
        return "file"

    async def again() -> Sequence[Any]:
        return [rendered(0, "whole", reused=True), rendered(1, "anew"), rendered(2, "whole too", reused=True)]

    file, made_of = await mending.assembled(BEFORE, assemble=assemble, again=again)
    assert file == "file"
    return tries, made_of


async def test_whole_segments_are_put_together_once() -> None:
    tries, made_of = await mended()
    assert tries == [BEFORE]
    assert made_of is BEFORE


@pytest.mark.parametrize("reason", ["OBJECT_CORRUPT", "OBJECT_MISSING"])
async def test_only_what_is_spoilt_is_exchanged(reason: str) -> None:
    tries, made_of = await mended(Failure(reason, {"key": "render/1"}))
    assert tries[1] == made_of == [BEFORE[0], rendered(1, "anew"), BEFORE[2]]


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param([Failure("OBJECT_CORRUPT", {"key": "assets/clip"})], id="of the source"),
        pytest.param([Failure("CORRUPT_MEDIA", {"key": "render/1"})], id="another reason"),
        pytest.param([Failure("OBJECT_CORRUPT", {"key": "render/1"})] * 2, id="again and again"),
    ],
)
async def test_what_cannot_be_mended_fails_with_its_reason(failures: list[Failure]) -> None:
    with pytest.raises(WorkFailed) as caught:
        await mended(*failures)
    assert caught.value.failure == failures[0]
