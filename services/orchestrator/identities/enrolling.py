"""Portraits of a request, looked at by the detector: one object and a report, or every portrait that cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.error_table import Exit
from services.common.errors import DeadlineExceeded, InvalidSpec, MasqueradeError, Violation, from_reason
from services.common.store.objects import ObjectStore
from services.orchestrator import report
from services.orchestrator.identities.rows import PortraitReport
from services.orchestrator.orders import PORTRAIT_DRAWN, PORTRAIT_PHOTO
from services.orchestrator.peers import Peers

ENROL_S = 300.0
"""Sixteen portraits take seconds; a detector that takes longer is stuck."""

_LANDMARKS_BYTES = 478 * 3 * 4


@dataclass(frozen=True, slots=True)
class PortraitAsset:
    """A portrait as it lies in the store."""

    id: str
    key: str
    name: str
    """As the uploader gave it."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What enrolling wrote."""

    key: str
    digest: str
    quality: tuple[PortraitReport, ...]


class Enrolling:
    """Asks the detector."""

    def __init__(self, peers: Peers, store: ObjectStore) -> None:
        self._peers, self._store = peers, store

    async def enrol(self, portraits: Sequence[PortraitAsset], *, landmarks_key: str, output_key: str) -> Enrolled:
        """Make the object of an identity.

        Args:
            portraits: in the order of the request.
            landmarks_key: of the landmarks of a drawn portrait, else empty.
            output_key: for the object.

        Raises:
            NoFaceInPortrait, SeveralFacesInPortrait, FaceTooSmall, FaceTurned, FaceCovered, NotAnImage, ...: the first
                portrait that cannot be used; the violations name them all, as `asset_ids[i]`.
            InvalidSpec: landmarks that are none.
            DeadlineExceeded, Unavailable: the detector.
        """
        landmarks = await self._landmarks(landmarks_key) if landmarks_key else []
        try:
            answer = await self._ask(portraits, landmarks, output_key)
        except MasqueradeError as error:
            if _at(error, portraits) is None:
                raise
            raise await self._all_faults(error, portraits, landmarks, output_key) from error
        told = zip(portraits, answer["quality"], strict=True)
        return Enrolled(
            key=answer["identity"]["key"],
            digest=answer["identity"]["digest"],
            quality=tuple(_report(portrait, quality) for portrait, quality in told),
        )

    async def _all_faults(
        self, error: MasqueradeError | None, portraits: Sequence[PortraitAsset], landmarks: list[float], key: str
    ) -> MasqueradeError:
        """The error of the first bad portrait, with violations for all: who mends them mends them in one go.

        The detector names one at a time, in an order of its own: it is asked again without those that it named.
        """
        faults: dict[int, MasqueradeError] = {}
        probe_key = f"{key}-probe"
        while error is not None and (at := _at(error, portraits)) is not None and at not in faults:
            faults[at] = _named(error, portraits[at].name, ())
            error = await self._fault(portraits, landmarks, probe_key, without=faults)
        # The rest was in order, and what was made of it has no owner.
        await self._store.delete(probe_key)
        first = faults[min(faults)]
        violations = [Violation(_place(at), faults[at].text()) for at in sorted(faults)]
        return from_reason(first.reason, first.fields, remedy=first.own_remedy, violations=violations)

    async def _fault(
        self, portraits: Sequence[PortraitAsset], landmarks: list[float], key: str, *, without: Collection[int]
    ) -> MasqueradeError | None:
        if len(without) == len(portraits):
            return None
        try:
            await self._ask(portraits, landmarks, key, without=without)
        except MasqueradeError as error:
            if error.explanation.exit is not Exit.REFUSED:
                raise
            return error
        return None

    async def _ask(
        self, portraits: Sequence[PortraitAsset], landmarks: list[float], key: str, *, without: Collection[int] = ()
    ) -> Any:
        kind = PORTRAIT_DRAWN if landmarks else PORTRAIT_PHOTO
        # Named by their places: an error about a portrait says by its name which one it means.
        asked: list[Any] = [
            {"asset_key": portrait.key, "name": _place(number), "kind": kind, "landmarks": landmarks}
            for number, portrait in enumerate(portraits)
            if number not in without
        ]
        try:
            async with asyncio.timeout(ENROL_S):
                return await self._peers.ask("detector.Enroll", {"portraits": asked, "output_key": key})
        except TimeoutError:
            raise DeadlineExceeded(what="enrolling", limit_s=round(ENROL_S)) from None
        except InvalidSpec as error:
            if error.fields.get("field") != "landmarks":
                raise
            problem = "are not 478 landmarks inside the picture"
            raise InvalidSpec(violations=[Violation("landmarks_asset_id", problem)]) from error

    async def _landmarks(self, key: str) -> list[float]:
        content = await self._store.get_bytes(key)
        if len(content) != _LANDMARKS_BYTES:
            problem = f"holds {len(content)} bytes; 478 x, y, z as float32 are {_LANDMARKS_BYTES}"
            raise InvalidSpec(violations=[Violation("landmarks_asset_id", problem)])
        return report.floats(content)


def _place(number: int) -> str:
    return f"asset_ids[{number}]"


def _at(error: MasqueradeError, portraits: Sequence[PortraitAsset]) -> int | None:
    """Which portrait an error is about; None if it is about something else."""
    for number in range(len(portraits)):
        if _place(number) in error.fields.values():
            return number
    return None


def _named(error: MasqueradeError, name: str, violations: Sequence[Violation]) -> MasqueradeError:
    """The same error, about the portrait as its uploader knows it."""
    fields = {key: name if value.startswith("asset_ids[") else value for key, value in error.fields.items()}
    return from_reason(error.reason, fields, remedy=error.own_remedy, violations=violations)


def _report(portrait: PortraitAsset, quality: Any) -> PortraitReport:
    return PortraitReport(
        asset=portrait.id,
        name=portrait.name,
        face_width_px=round(float(quality["face_width_px"]), 2),
        yaw_degrees=round(float(quality["yaw_degrees"]), 2),
        sharpness=round(float(quality["sharpness"]), 2),
        warnings=tuple(quality["warnings"]),
    )
