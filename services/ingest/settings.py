"""What an operator may choose of ingest: how much of a video is taken on, and what reading and storing it may cost."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import ClassVar

from pydantic import ByteSize, Field

from services.common.settings import ServiceSettings
from services.ingest.assets.uploads import UploadLimits
from services.ingest.limits import MediaLimits
from services.ingest.links import LinkLimits
from services.ingest.serving import Bounds


class IngestSettings(ServiceSettings):
    """Limits of videos, of the children that read them, and of uploads."""

    service: ClassVar[str] = "ingest"

    most_pixels: int = Field(default=2 * 3840 * 2160, gt=0)
    """Most pixels of a frame; twice a UHD picture, so that DCI 4K and tall phones pass."""

    least_side_px: int = Field(default=16, gt=0)
    """Shortest side of a picture that is worked on."""

    most_streams: int = Field(default=16, gt=0)
    """Most streams in a file, of all kinds."""

    most_fps: int = Field(default=240, gt=0)
    """Most frames a second."""

    most_seconds: int = Field(default=2 * 60 * 60, gt=0)
    """Longest video."""

    most_gap_s: int = Field(default=60, gt=0)
    """Longest time between two frames; a few bytes can claim hours."""

    most_frames: int = Field(default=2 * 60 * 60 * 60, gt=0)
    """Most frames of a video: two hours at 60 a second."""

    segment_frames: int = Field(default=256, ge=8)
    """Wanted frames in a segment: long enough that what is decoded twice is little, short enough to be done again."""

    child_memory: ByteSize = ByteSize(1536 << 20)
    """Address space of a child that reads a video, beyond the memory that it shares."""

    child_cpu_s: int = Field(default=600, gt=0)
    """CPU seconds of such a child; one that is to give frames has a second more for each."""

    probe_timeout_s: float = Field(default=30.0, gt=0)
    """Wall time to read a file's headers and first frame."""

    index_timeout_s: float = Field(default=600.0, gt=0)
    """Wall time to list all frames; some files must be decoded for it."""

    frame_timeout_s: float = Field(default=60.0, gt=0)
    """Wall time to the next frame of a stream; the first may lie far behind its key frame."""

    children: int = Field(default=2, gt=0)
    """Probes and indexes at once; more wait."""

    decode_streams: int = Field(default=64, gt=0)
    """Decode streams at once, each with a child of its own; more are refused, as waiting could never end."""

    link_bytes: ByteSize = ByteSize(4 << 30)
    """Largest file that is fetched by a link."""

    link_timeout_s: float = Field(default=1800.0, gt=0)
    """Wall time to fetch it."""

    link_rate: ByteSize = ByteSize(16 << 10)
    """Least bytes a second at which it must come, over every half minute."""

    link_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that links may lead to although they are not public, on any TCP port: 10.1.0.0/16. None unless named."""

    link_sites: tuple[str, ...] = ("default",)
    """Sites whose pages yt-dlp may open, by its own names as regular expressions; `default` is all of them. Pages of no
    known site are never searched for videos."""

    upload_part_bytes: ByteSize = Field(default=ByteSize(8 << 20), ge=64 << 10, le=64 << 20)
    """So much of an upload is stored and confirmed at once: what a caller that breaks off loses at most, and what each
    open upload holds in memory."""

    upload_streams: int = Field(default=32, gt=0)
    """Uploads at once in one process; more are told to come again."""

    def link_limits(self) -> LinkLimits:
        """How far a link is followed."""
        return LinkLimits(
            most_bytes=int(self.link_bytes),
            most_s=self.most_seconds,
            wall_s=self.link_timeout_s,
            rate_bytes_s=int(self.link_rate),
            networks=self.link_networks,
            sites=self.link_sites,
        )

    def upload_limits(self) -> UploadLimits:
        """What uploads may take."""
        return UploadLimits(
            part_bytes=int(self.upload_part_bytes),
            tenant_bytes=int(self.tenant_bytes),
            streams=self.upload_streams,
        )

    def bounds(self) -> Bounds:
        """The same, as the domain takes it."""
        return Bounds(
            media=MediaLimits(
                pixels=self.most_pixels,
                least_side_px=self.least_side_px,
                streams=self.most_streams,
                rate=self.most_fps,
                seconds=self.most_seconds,
                gap_seconds=self.most_gap_s,
                frames=self.most_frames,
            ),
            memory_bytes=int(self.child_memory),
            probe_s=self.probe_timeout_s,
            index_s=self.index_timeout_s,
            frame_s=self.frame_timeout_s,
            cpu_s=self.child_cpu_s,
            children=self.children,
            streams=self.decode_streams,
        )
