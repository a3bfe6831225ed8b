"""Messages of the detector to what it works with, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from masquerade.timeline import Timeline
from masquerade.v1 import detector_pb2 as pb
from masquerade.v1 import media_pb2, timeline_pb2
from services.common.errors import FrameBatchInvalid, InvalidSpec
from services.common.lanes.payload import borrow_frames
from services.common.lanes.pictures import Frames, PixelFormat
from services.common.media.index import Segment
from services.common.store.objects import ObjectInfo, checked_key
from services.detector.conducting import PortraitOrder, SegmentAnalysed, SegmentOrder, landmarks_of
from services.detector.detectors import DETECTORS, Detector
from services.detector.enrolling import Kind, PortraitQuality
from services.detector.linking import Linked, SegmentSeen
from services.detector.pose import pose_of
from services.detector.sights import Sight

MOST_FRAMES = 64
MOST_PORTRAITS = 16
MOST_FACES = 64
"""More faces than this in one frame are a crowd, and each costs a look in each frame."""


@contextmanager
def borrowed_frames(request: pb.DetectRequest) -> Iterator[Frames]:
    """The frames, in the caller's memory: valid inside the block.

    Raises:
        FrameBatchInvalid: they are not RGB, or too many.
    """
    with borrow_frames(request.frames, at_most=MOST_FRAMES) as frames:
        if frames.shape.format is not PixelFormat.RGB24:
            raise FrameBatchInvalid(problem="frames to look at are RGB24")
        yield frames


def detect_response(frames: Frames, found: Sequence[Sequence[Sight]]) -> pb.DetectResponse:
    """One entry for each frame, in the order asked."""
    return pb.DetectResponse(
        frames=[
            pb.FacesInFrame(index=frames.first_index + number, faces=[_face(sight) for sight in sights])
            for number, sights in enumerate(found)
        ]
    )


def segment_order(request: pb.AnalyseSegmentRequest) -> SegmentOrder:
    """What AnalyseSegment is to do."""
    if request.max_faces > MOST_FACES:
        raise InvalidSpec(field="max_faces", problem=f"{request.max_faces}, at most {MOST_FACES}")
    return SegmentOrder(
        asset_key=_key(request.asset_key, "asset_key"),
        index_key=_key(request.index_key, "index_key"),
        segment=_segment(request.segment),
        output_key=_key(request.output_key, "output_key"),
        detector=request.detector,
        most_faces=request.max_faces,
    )


def segment_response(analysed: SegmentAnalysed) -> pb.AnalyseSegmentResponse:
    """Where the observations are."""
    return pb.AnalyseSegmentResponse(
        observations=_object(analysed.stored),
        frames=analysed.frames,
        faces=analysed.faces,
        reused=analysed.is_reused,
    )


def list_response(
    *, default: str, max_faces: int, missing: Callable[[Detector], Sequence[str]]
) -> pb.ListDetectorsResponse:
    """The detectors, by name; `missing` tells which of one's models have no weights."""
    return pb.ListDetectorsResponse(
        detectors=[
            pb.DetectorInfo(
                name=name,
                is_default=name == default,
                models=[*known.models, *known.own_models],
                missing=missing(known),
            )
            for name, known in sorted(DETECTORS.items())
        ],
        max_faces=max_faces,
    )


def segments_seen(request: pb.LinkRequest) -> list[SegmentSeen]:
    """The segments with their observations, in order."""
    if not request.segments or len(request.segments) != len(request.observations):
        problem = f"{len(request.observations)} for {len(request.segments)} segments"
        raise InvalidSpec(field="observations", problem=problem)
    return [
        SegmentSeen(_segment(segment), _key(seen.key, "observations"))
        for segment, seen in zip(request.segments, request.observations, strict=True)
    ]


def output_key(request: pb.LinkRequest | pb.EnrollRequest) -> str:
    """Where the result is to lie."""
    return _key(request.output_key, "output_key")


def index_key(request: pb.LinkRequest) -> str:
    """Where the index lies."""
    return _key(request.index_key, "index_key")


def link_response(linked: Linked) -> pb.LinkResponse:
    """The Timeline, and what is in it, in short."""
    return pb.LinkResponse(timeline=_object(linked.stored), summary=_summary(linked.timeline), reused=linked.is_reused)


def portrait_orders(request: pb.EnrollRequest) -> list[PortraitOrder]:
    """The portraits to enrol."""
    if not 1 <= len(request.portraits) <= MOST_PORTRAITS:
        raise InvalidSpec(field="portraits", problem=f"{len(request.portraits)}, 1 to {MOST_PORTRAITS} are needed")
    return [
        PortraitOrder(
            key=_key(portrait.asset_key, "asset_key"),
            name=portrait.name or f"portrait {number}",
            kind=_kind(portrait.kind),
            points=landmarks_of(portrait.landmarks),
        )
        for number, portrait in enumerate(request.portraits, start=1)
    ]


def enroll_response(stored: ObjectInfo, quality: Sequence[PortraitQuality]) -> pb.EnrollResponse:
    """The identity, and what is to be said of its portraits."""
    return pb.EnrollResponse(
        identity=_object(stored),
        quality=[
            pb.PortraitQuality(
                name=report.name,
                face_width_px=report.width_px,
                yaw_degrees=report.yaw_deg,
                sharpness=report.sharpness,
                warnings=report.warnings,
            )
            for report in quality
        ],
    )


def _face(sight: Sight) -> pb.Face:
    x0, y0, x1, y1 = sight.box.tolist()
    yaw, pitch, roll = pose_of(sight.points[None])[0].tolist()
    return pb.Face(
        x0=x0,
        y0=y0,
        x1=x1,
        y1=y1,
        score=sight.score,
        landmarks=sight.points.ravel().tolist(),
        yaw_degrees=yaw,
        pitch_degrees=pitch,
        roll_degrees=roll,
        sharpness=sight.sharpness,
    )


def _summary(timeline: Timeline) -> timeline_pb2.TimelineSummary:
    return timeline_pb2.TimelineSummary(
        frames=timeline.frames,
        cuts=timeline.cuts,
        tracks=[
            timeline_pb2.Track(
                track=track.number,
                person=track.person,
                frames=media_pb2.FrameRange(first=track.first, last=track.last),
                observed_frames=track.observed,
                max_width_px=track.max_width_px,
            )
            for track in timeline.tracks
        ],
        people=[
            timeline_pb2.Person(
                person=person.number,
                tracks=[track.number for track in timeline.tracks_of(person.number)],
                first_frame=person.first,
            )
            for person in timeline.people
        ],
        notes=timeline.notes,
    )


def _kind(kind: pb.PortraitKind) -> Kind:
    if kind in (pb.PORTRAIT_KIND_UNSPECIFIED, pb.PORTRAIT_KIND_PHOTO):
        return "photo"
    if kind == pb.PORTRAIT_KIND_DRAWN:
        return "drawn"
    raise InvalidSpec(field="kind", problem=f"{kind} is no kind of portrait")


def _segment(message: media_pb2.Segment) -> Segment:
    first, last = message.frames.first, message.frames.last
    if not 0 <= first < last:
        raise InvalidSpec(field="segment", problem=f"frames {first} to {last} are none")
    return Segment(message.number, first, last)


def _object(stored: ObjectInfo) -> media_pb2.ObjectRef:
    return media_pb2.ObjectRef(key=stored.key, digest=stored.digest, size_bytes=stored.bytes)


def _key(key: str, field: str) -> str:
    if not key:
        raise InvalidSpec(field=field, problem="is empty")
    return checked_key(key)
