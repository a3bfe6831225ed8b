"""The only place where the compositor's messages become plain data and back."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from masquerade.v1 import compositor_pb2 as pb
from masquerade.v1 import media_pb2, swapper_pb2
from services.common.errors import InvalidSpec
from services.compositor.backgrounds import DEFAULT_BLUR
from services.compositor.carriage import Container, container_of
from services.compositor.encoding import PRESETS, EncodeSettings
from services.compositor.finishing import AssembleOrder, SegmentRef, VerifyOrder
from services.compositor.orders import BackgroundKind, BackgroundOrder, RenderOrder, SwapOrder
from services.compositor.timetable import Range

if TYPE_CHECKING:
    from services.common.store.objects import ObjectInfo
    from services.compositor.finalising import Finalised
    from services.compositor.finishing import AssembledFile, Verified
    from services.compositor.rendering import Rendered

_BACKGROUNDS = {
    pb.BACKGROUND_KIND_UNSPECIFIED: BackgroundKind.KEEP,
    pb.BACKGROUND_KIND_KEEP: BackgroundKind.KEEP,
    pb.BACKGROUND_KIND_IMAGE: BackgroundKind.IMAGE,
    pb.BACKGROUND_KIND_VIDEO: BackgroundKind.VIDEO,
    pb.BACKGROUND_KIND_BLUR: BackgroundKind.BLUR,
    pb.BACKGROUND_KIND_COLOUR: BackgroundKind.COLOUR,
}

# Beyond x264's own scale nothing is left of a picture; beyond 16 B-frames it refuses.
_MOST_CRF, _MOST_BFRAMES, _MOST_THREADS = 51, 16, 16

_LONGEST_LABEL = 200

_CONTAINERS = {"h264": ("mp4", "mov", "mkv"), "vp9": ("webm",)}
"""By codec, its own first."""


def render_order(request: pb.RenderSegmentRequest) -> RenderOrder:
    """A segment to render."""
    if len(request.label) > _LONGEST_LABEL:
        raise InvalidSpec(field="label", problem=f"at most {_LONGEST_LABEL} characters")
    return RenderOrder(
        asset_key=request.asset_key,
        index_key=request.index_key,
        segment=frame_range(request.segment.frames, "segment"),
        output_key=request.output_key,
        keep=frame_ranges(request.keep, "keep"),
        apply=frame_ranges(request.apply, "apply"),
        swap=SwapOrder(
            timeline_key=request.timeline_key,
            cast={entry.person: entry.identity_key for entry in request.cast},
            engine=request.engine,
            options=dict(request.engine_options),
        ),
        background=_background(request.background),
        encode=encode_settings(request.encode),
        container=container(request.encode),
        label=request.label,
        plane_digests=request.plane_digests,
        dump_planes=request.dump_planes,
    )


def _background(message: pb.RenderBackground) -> BackgroundOrder:
    kind = _BACKGROUNDS.get(message.kind)
    if kind is None:
        raise InvalidSpec(field="background.kind", problem=f"{message.kind} is no kind of background")
    if not 0 <= message.blur <= 0.5:
        raise InvalidSpec(field="background.blur", problem="a share of the width, from 0 to 0.5")
    if message.rgb > 0xFFFFFF:
        raise InvalidSpec(field="background.rgb", problem="0xRRGGBB")
    return BackgroundOrder(kind, message.asset_key, message.index_key, message.rgb, message.blur, message.model)


def encode_settings(message: pb.EncodeSettings) -> EncodeSettings:
    """How to encode; what is unset has its default."""
    default = EncodeSettings()
    settings = EncodeSettings(
        preset=message.preset if message.HasField("preset") else default.preset,
        crf=message.crf if message.HasField("crf") else default.crf,
        bf=message.bframes if message.HasField("bframes") else default.bf,
        threads=message.threads if message.HasField("threads") else default.threads,
    )
    if settings.preset not in PRESETS:
        raise InvalidSpec(field="encode.preset", problem=f"one of {', '.join(PRESETS)}")
    for name, value, least, most in (
        ("crf", settings.crf, 0, _MOST_CRF),
        ("bframes", settings.bf, 0, _MOST_BFRAMES),
        ("threads", settings.threads, 1, _MOST_THREADS),
    ):
        if not least <= value <= most:
            raise InvalidSpec(field=f"encode.{name}", problem=f"from {least} to {most}, not {value}")
    return settings


def container(message: pb.EncodeSettings) -> Container:
    """The container that is asked for; MP4 if none is."""
    try:
        return container_of(message.container)
    except ValueError as error:
        raise InvalidSpec(field="encode.container", problem=str(error)) from error


def list_response() -> pb.ListEncodersResponse:
    """The encoders by codec: the container that is asked for chooses one."""
    default = EncodeSettings()
    settings = {
        "preset": default.preset,
        "crf": str(default.crf),
        "bframes": str(default.bf),
        "threads": str(default.threads),
    }
    first = container_of("").suffix.removeprefix(".")
    return pb.ListEncodersResponse(
        encoders=[
            pb.EncoderInfo(
                name=codec,
                is_default=first in containers,
                options={"container": containers[0], **settings},
                choices=[
                    swapper_pb2.OptionChoices(option="container", values=containers),
                    swapper_pb2.OptionChoices(option="preset", values=PRESETS),
                ],
            )
            for codec, containers in _CONTAINERS.items()
        ],
        blur=DEFAULT_BLUR,
    )


def frame_range(message: media_pb2.FrameRange, field: str) -> Range:
    """A range of frames that holds at least one."""
    try:
        return Range(message.first, message.last)
    except ValueError as error:
        raise InvalidSpec(field=field, problem=str(error)) from error


def frame_ranges(messages: Sequence[media_pb2.FrameRange], field: str) -> tuple[Range, ...]:
    """Ranges in order that do not overlap."""
    ranges = tuple(frame_range(message, field) for message in messages)
    for before, after in pairwise(ranges):
        if after.first < before.last:
            raise InvalidSpec(field=field, problem="ranges ascend and do not overlap")
    return ranges


def object_ref(info: ObjectInfo) -> media_pb2.ObjectRef:
    """A stored object as a message."""
    return media_pb2.ObjectRef(key=info.key, digest=info.digest, size_bytes=info.bytes)


def render_response(rendered: Rendered) -> pb.RenderSegmentResponse:
    """The rendered segment."""
    return pb.RenderSegmentResponse(
        segment=object_ref(rendered.segment),
        frames=rendered.frames,
        plane_digests=None if rendered.digests is None else object_ref(rendered.digests),
        reused=rendered.is_reused,
        faces=rendered.faces,
    )


def assemble_order(request: pb.AssembleRequest) -> AssembleOrder:
    """What to put together."""
    return AssembleOrder(
        asset_key=request.asset_key,
        index_key=request.index_key,
        segments=[SegmentRef(ref.key, ref.digest) for ref in request.segments],
        output_key=request.output_key,
        keep=frame_ranges(request.keep, "keep"),
        encode=encode_settings(request.encode),
        container=container(request.encode),
        tags=dict(request.metadata),
    )


def assemble_response(assembled: AssembledFile) -> pb.AssembleResponse:
    """The assembled file."""
    return pb.AssembleResponse(
        file=object_ref(assembled.file),
        frames=assembled.frames,
        offset_num=assembled.offset.numerator,
        offset_den=assembled.offset.denominator,
        notes=assembled.remarks,
    )


def verify_order(request: pb.VerifyRequest) -> VerifyOrder:
    """What to hold against what."""
    return VerifyOrder(
        file_key=request.file_key,
        asset_key=request.asset_key,
        index_key=request.index_key,
        keep=frame_ranges(request.keep, "keep"),
        offset=Fraction(request.offset_num, request.offset_den or 1),
    )


def verify_response(verified: Verified) -> pb.VerifyResponse:
    """What was proved."""
    return pb.VerifyResponse(
        frames=verified.frames, max_pts_error_ms=float(verified.max_pts_error * 1000), gates=verified.gates
    )


def finalise_response(finalised: Finalised) -> pb.FinaliseResponse:
    """The artifact."""
    return pb.FinaliseResponse(
        artifact=object_ref(finalised.artifact), record=object_ref(finalised.record), signer=finalised.signer
    )
