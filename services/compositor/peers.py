"""What rendering asks of other services, in its own words; `client.py` says it in theirs."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from services.common.arrays import Alpha8, Points, Rgb
    from services.common.colour import ColourTags
    from services.common.lanes.frame import DecodedFrame
    from services.compositor.blending import Patch
    from services.compositor.timetable import Range


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face to cover: its pixels and what is known of it."""

    frame: int
    track: int
    rgb: Rgb
    points: Points
    """(478, 3) float32 in pixels of `rgb`."""

    weight: float
    pose: tuple[float, float, float]
    """Yaw, pitch, roll in degrees."""


@dataclass(frozen=True, slots=True)
class Call:
    """What all swaps of one identity have in common."""

    identity_key: str
    engine: str
    options: Mapping[str, str]
    textures_key: str


@dataclass(frozen=True, slots=True)
class Pull:
    """What is decoded of the source for a run of frames."""

    asset_key: str
    index_key: str
    frames: Range
    """All that is decoded, lead-in and lead-out included."""

    planes: Range
    """The frames that are rendered: of these the planes are asked."""

    width: int
    height: int
    small: tuple[int, int] | None
    """Size of the small view that is asked of all frames; None asks for none."""


@dataclass(frozen=True, slots=True)
class Covering:
    """A background video: what is decoded of it, and to what it is scaled."""

    asset_key: str
    index_key: str
    width: int
    height: int
    colour: ColourTags


class MattingModels(Protocol):
    """What must be known of the matting models before any frame is asked for."""

    async def size(self, model: str) -> tuple[int, int]:
        """Width and height of the frames that a model takes; empty is the profile's."""


class Peers(Protocol):
    """The services that one render talks to, over one stretch of memory."""

    def pull(self, wanted: Pull, *, max_bytes: int) -> AbstractAsyncContextManager[AsyncIterable[DecodedFrame]]:
        """Frames of the source, in order. `max_bytes` of them are lent at once; releasing one lets the next come."""

    def cover(
        self, frames: Range, how: Covering, *, max_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterable[DecodedFrame]]:
        """Frames of a background video as planes of the target's size, in order."""

    async def segment(self, frames: Sequence[DecodedFrame], model: str) -> list[Alpha8]:
        """A matte for each frame's small view; 255 is foreground. The arrays are their own."""

    async def swap(self, faces: Sequence[Face], call: Call) -> list[Patch | None]:
        """A patch for each face, None where nothing is to change. The arrays are their own."""
