"""Messages of the contract to what ingest works with, and back; nothing else knows both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from masquerade.v1 import frames_pb2, ingest_pb2, media_pb2
from services.common.errors import InvalidSpec
from services.common.lanes.payload import colour_message, lease_message, read_colour, read_lease
from services.common.lanes.pictures import Shape, lay_out
from services.common.lanes.region import SlotRef
from services.common.lanes.views import (
    Box,
    CoverWanted,
    CropsWanted,
    PlanesWanted,
    RgbWanted,
    Span,
    ViewWanted,
)
from services.common.media.index import MediaIndex
from services.common.store.objects import ObjectInfo
from services.ingest.planning import Range
from services.ingest.serving import Plan
from services.ingest.streaming import Credit, Given


def key(text: str, field: str) -> str:
    """A key that is there.

    Raises:
        InvalidSpec: it is empty.
    """
    if not text:
        raise InvalidSpec(field=field, problem="it is empty")
    return text


def times(ranges: Sequence[media_pb2.TimeRange]) -> list[tuple[int, int | None]]:
    """Ranges in milliseconds; None is the end of the video."""
    return [(r.start_ms, r.end_ms if r.HasField("end_ms") else None) for r in ranges]


def views(messages: Sequence[ingest_pb2.View], index: MediaIndex) -> list[ViewWanted]:
    """What is wanted of each frame; the planes are as large as the video.

    Raises:
        InvalidSpec: a view of no kind.
        FrameBatchInvalid: colour that we cannot compute with.
    """
    return [_view(message, index, number) for number, message in enumerate(messages)]


def _view(message: ingest_pb2.View, index: MediaIndex, number: int) -> ViewWanted:
    frames: Span | None = (message.frames.first, message.frames.last) if message.HasField("frames") else None
    match message.WhichOneof("kind"):
        case "planes":
            return PlanesWanted(index.width, index.height, frames)
        case "rgb":
            return RgbWanted(message.rgb.width, message.rgb.height, frames)
        case "cover":
            cover = message.cover
            return CoverWanted(cover.width, cover.height, read_colour(cover.colour), frames)
        case "crops":
            return CropsWanted({crops.index: _boxes(crops) for crops in message.crops.frames}, frames)
        case _:
            raise InvalidSpec(field=f"views[{number}]", problem="it asks for nothing")


def _boxes(crops: ingest_pb2.FrameCrops) -> list[Box]:
    return [(rect.x0, rect.y0, rect.x1, rect.y1) for rect in crops.rects]


async def grants(requests: AsyncIterator[ingest_pb2.DecodeRequest]) -> AsyncIterator[list[Credit]]:
    """What the caller lends after it has opened the stream, as it was granted together.

    Raises:
        InvalidSpec: something other than a grant.
    """
    async for request in requests:
        if request.WhichOneof("step") != "grant":
            raise InvalidSpec(field="step", problem="after open come grants")
        granted: list[Credit] = [read_lease(slot) for slot in request.grant.slots]
        if request.grant.inline_bytes:
            granted.append(request.grant.inline_bytes)
        yield granted


def decoded(given: Sequence[Given], wanted: Sequence[ViewWanted], index: MediaIndex) -> ingest_pb2.DecodeResponse:
    """Frames as an answer."""
    return ingest_pb2.DecodeResponse(frames=[_frame(frame, wanted, index) for frame in given])


def _frame(given: Given, wanted: Sequence[ViewWanted], index: MediaIndex) -> ingest_pb2.DecodedFrame:
    """One frame; where its pictures lie follows from what was asked."""
    shapes = [view.shapes(given.number) for view in wanted]
    offsets = iter(lay_out([shape for group in shapes for shape in group])[0])
    answered = [
        ingest_pb2.DecodedView(
            view=number, images=[_image(shape, next(offsets)) for shape in group], colour=_colour(view, index)
        )
        for number, (view, group) in enumerate(zip(wanted, shapes, strict=True))
        if group
    ]
    return ingest_pb2.DecodedFrame(
        index=given.number,
        pts=given.pts,
        views=answered,
        payload=_payload(given.payload),
        top_field_first=given.top_field_first,
    )


def _colour(view: ViewWanted, index: MediaIndex) -> frames_pb2.ColourTags | None:
    match view:
        case PlanesWanted():
            return colour_message(index.colour)
        case CoverWanted():
            return colour_message(view.colour)
        case _:
            return None


def _image(shape: Shape, offset: int) -> frames_pb2.Image:
    return frames_pb2.Image(
        width=shape.width,
        height=shape.height,
        format=f"PIXEL_FORMAT_{shape.format.name}",
        offset=offset,
    )


def _payload(place: SlotRef | bytes) -> frames_pb2.Payload:
    if isinstance(place, SlotRef):
        return frames_pb2.Payload(slot=lease_message(place))
    return frames_pb2.Payload(inline=place)


def plan_response(plan: Plan) -> ingest_pb2.PlanResponse:
    """The cut as an answer."""
    return ingest_pb2.PlanResponse(
        segments=[
            media_pb2.Segment(number=segment.number, frames=_range((segment.first, segment.last)))
            for segment in plan.segments
        ],
        keep=[_range(r) for r in plan.keep],
        apply=[_range(r) for r in plan.apply],
    )


def _range(frames: Range) -> media_pb2.FrameRange:
    return media_pb2.FrameRange(first=frames[0], last=frames[1])


def index_response(info: ObjectInfo, index: MediaIndex) -> ingest_pb2.IndexResponse:
    """The written index as an answer."""
    return ingest_pb2.IndexResponse(
        index=media_pb2.ObjectRef(key=info.key, digest=info.digest, size_bytes=info.bytes),
        info=media_info(index),
        filled_pts=index.filled,
        moved_pts=index.moved,
    )


def media_info(index: MediaIndex) -> media_pb2.MediaInfo:
    """What is known of a video, without its list of frames."""
    picture = index.picture
    padded = picture.padded_from or (0, 0)
    return media_pb2.MediaInfo(
        container=index.container,
        codec=index.codec,
        coded_format=picture.coded_format,
        width=picture.width,
        height=picture.height,
        colour=colour_message(picture.colour),
        time_base=media_pb2.TimeBase(num=index.time_base.numerator, den=index.time_base.denominator),
        mean_rate_num=index.mean_rate.numerator,
        mean_rate_den=index.mean_rate.denominator,
        frames=index.frames,
        first_pts=int(index.pts[0]),
        end_pts=index.end,
        is_vfr=index.is_vfr,
        is_interlaced=index.is_interlaced,
        rotation_degrees=index.rotation,
        padded_from_width=padded[0],
        padded_from_height=padded[1],
        sar_num=picture.sar.numerator if picture.sar else 0,
        sar_den=picture.sar.denominator if picture.sar else 0,
        others=[
            media_pb2.OtherStream(
                kind=other.kind,
                codec=other.codec,
                language=other.language,
                sample_rate_hz=other.sample_rate_hz,
                channels=other.channels,
            )
            for other in index.others
        ],
        chapters=index.chapters,
        notes=index.notes,
    )
