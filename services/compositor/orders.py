"""What rendering is asked for: the requests of the contract as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from services.compositor.carriage import Container
from services.compositor.encoding import EncodeSettings
from services.compositor.timetable import Range


class BackgroundKind(Enum):
    """What is behind the foreground."""

    KEEP = "keep"
    IMAGE = "image"
    VIDEO = "video"
    BLUR = "blur"
    COLOUR = "colour"


@dataclass(frozen=True, slots=True)
class BackgroundOrder:
    """The background that is asked for."""

    kind: BackgroundKind = BackgroundKind.KEEP
    asset_key: str = ""
    index_key: str = ""
    rgb: int = 0
    """0xRRGGBB."""

    blur: float = 0.0
    """Standard deviation as a share of the width; 0 is the default."""

    model: str = ""
    """Matting model; empty means the profile's."""


@dataclass(frozen=True, slots=True)
class SwapOrder:
    """Whose faces are covered with whose."""

    timeline_key: str = ""
    cast: Mapping[int, str] = field(default_factory=dict)
    """Key of the identity, by person."""

    engine: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_wanted(self) -> bool:
        """Whether any face may be covered at all."""
        return bool(self.timeline_key and self.cast)


@dataclass(frozen=True, slots=True)
class RenderOrder:
    """One segment to render."""

    asset_key: str
    index_key: str
    segment: Range
    output_key: str
    keep: Sequence[Range] = ()
    """Frames that stay; none means all. Ranges may reach beyond the segment."""

    apply: Sequence[Range] = ()
    """Frames in which the effect acts; none means all."""

    swap: SwapOrder = field(default_factory=SwapOrder)
    background: BackgroundOrder = field(default_factory=BackgroundOrder)
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    container: Container = Container.MP4
    label: str = ""
    plane_digests: bool = False
    dump_planes: bool = False

    def runs(self) -> list[Range]:
        """The stretches of the segment that stay, in order."""
        first, last = self.segment.first, self.segment.last
        if not self.keep:
            return [self.segment]
        clipped = (part.clipped(first, last) for part in self.keep)
        return [part for part in clipped if part is not None]

    def acts_on(self, frame: int) -> bool:
        """Whether the effect acts on a frame."""
        return not self.apply or any(part.first <= frame < part.last for part in self.apply)
