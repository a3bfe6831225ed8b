"""How much of a video is taken on: bounds that keep a small file from becoming hours of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from services.common.errors import MediaLimitExceeded, MediaTooSmall


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Bounds of one video; each is a setting of the service.

    Attributes:
        pixels: most pixels of a frame; twice a UHD picture, so that 4096x2304 and DCI 4K on end both pass.
        least_side_px: shortest side worth working on.
        streams: most streams of all kinds.
        rate: most frames a second.
        seconds: longest video.
        gap_seconds: longest time between two frames; five frames over ten hours fit in 5 kB.
        frames: most frames.
    """

    pixels: int = 2 * 3840 * 2160
    least_side_px: int = 16
    streams: int = 16
    rate: int = 240
    seconds: int = 2 * 60 * 60
    gap_seconds: int = 60
    frames: int = 2 * 60 * 60 * 60

    @classmethod
    def of(cls, fields: Mapping[str, int]) -> MediaLimits:
        """From what `asdict` made of one, on the other side of a process border."""
        return cls(**fields)

    def check_picture(self, width: int, height: int, *, name: str) -> None:
        """Refuse pictures too large to hold or too small to be of use."""
        if width * height > self.pixels:
            raise MediaLimitExceeded(path=name, limit="pixels", value=width * height, most=self.pixels)
        if min(width, height) < self.least_side_px:
            raise MediaTooSmall(path=name, width=width, height=height, least=self.least_side_px)

    def check_streams(self, count: int, *, name: str) -> None:
        """Refuse files of very many streams: each costs memory in every stage."""
        if count > self.streams:
            raise MediaLimitExceeded(path=name, limit="streams", value=count, most=self.streams)

    def check_frames(self, count: int, *, name: str) -> None:
        """Refuse more frames than a job may have."""
        if count > self.frames:
            raise MediaLimitExceeded(path=name, limit="frames", value=count, most=self.frames)

    def check_rate(self, rate: Fraction, *, name: str) -> None:
        """Refuse rates that no camera has."""
        if rate > self.rate:
            raise MediaLimitExceeded(path=name, limit="frames a second", value=round(float(rate), 2), most=self.rate)

    def check_duration(self, seconds: Fraction, *, name: str) -> None:
        """Refuse videos longer than a job may be."""
        if seconds > self.seconds:
            raise MediaLimitExceeded(path=name, limit="seconds", value=round(float(seconds), 1), most=self.seconds)

    def check_gap(self, seconds: Fraction, *, name: str) -> None:
        """Refuse a pause in which nothing is shown for very long: players and editors disagree about it."""
        if seconds > self.gap_seconds:
            raise MediaLimitExceeded(
                path=name, limit="seconds between two frames", value=round(float(seconds), 1), most=self.gap_seconds
            )
