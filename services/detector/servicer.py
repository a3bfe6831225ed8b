"""The detector's door."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from grpc.aio import Server, ServicerContext

from masquerade.v1 import detector_pb2 as pb
from masquerade.v1 import detector_pb2_grpc
from services.detector import convert
from services.detector.conducting import Detection

Context: TypeAlias = ServicerContext[Any, Any]


SERVICE: Final = pb.DESCRIPTOR.services_by_name["DetectorService"].full_name
"""Full name, for health."""


class DetectorServicer(detector_pb2_grpc.DetectorServiceServicer):
    """Faces in frames, people in a video. Keeps nothing between calls: any replica may take any call."""

    def __init__(self, detection: Detection) -> None:
        self._detection = detection

    def add_to(self, server: Server) -> None:
        """Answer on this server."""
        detector_pb2_grpc.add_DetectorServiceServicer_to_server(self, server)

    async def Detect(self, request: pb.DetectRequest, context: Context) -> pb.DetectResponse:
        """Faces in a batch of frames, each frame for itself."""
        with convert.borrowed_frames(request) as frames:
            found = await self._detection.detect(frames.pixels, name=request.detector)
            return convert.detect_response(frames, found)

    async def AnalyseSegment(self, request: pb.AnalyseSegmentRequest, context: Context) -> pb.AnalyseSegmentResponse:
        """Observations of one segment."""
        return convert.segment_response(await self._detection.analyse(convert.segment_order(request)))

    async def Link(self, request: pb.LinkRequest, context: Context) -> pb.LinkResponse:
        """All segments' observations into one Timeline."""
        linked = await self._detection.link(
            convert.segments_seen(request),
            index_key=convert.index_key(request),
            output_key=convert.output_key(request),
            detector=request.detector,
        )
        return convert.link_response(linked)

    async def Enroll(self, request: pb.EnrollRequest, context: Context) -> pb.EnrollResponse:
        """Portraits into an identity."""
        stored, quality = await self._detection.enroll(
            convert.portrait_orders(request), output_key=convert.output_key(request), detector=request.detector
        )
        return convert.enroll_response(stored, quality)

    async def ListDetectors(self, request: pb.ListDetectorsRequest, context: Context) -> pb.ListDetectorsResponse:
        """The detectors that are registered."""
        default, max_faces = self._detection.listed()
        return convert.list_response(default=default, max_faces=max_faces, missing=self._detection.missing)
