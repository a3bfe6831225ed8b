"""Requests of the public door made plain, and descriptions made messages."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from masquerade.v1 import job_pb2 as pb
from masquerade.v1 import swapper_pb2
from services.common.errors import InvalidSpec, Violation
from services.orchestrator.book.listing import Filter
from services.orchestrator.describing import Description, EngineChoice, StageChoices
from services.orchestrator.progress import JobState


def wanted(request: pb.ListJobsRequest) -> Filter:
    """Which jobs are asked for.

    Raises:
        InvalidSpec: a state that is none, or a time that is none.
    """
    if request.state and int(request.state) not in {int(state) for state in JobState}:
        raise InvalidSpec(violations=[Violation("state", f"{request.state} is no state")])
    return Filter(
        state=JobState(request.state) if request.state else None,
        labels=dict(request.labels),
        created_from_ms=_time(request, "create_time_from"),
        created_before_ms=_time(request, "create_time_before"),
    )


def _time(request: pb.ListJobsRequest, name: str) -> int | None:
    if not request.HasField(name):
        return None
    time: Timestamp = getattr(request, name)
    try:
        return time.ToMilliseconds()
    except ValueError as error:
        raise InvalidSpec(violations=[Violation(name, "is no time")]) from error


def description(described: Description) -> pb.DescribeResponse:
    """All that a caller can choose from."""
    return pb.DescribeResponse(
        stages=[_stage(stage) for stage in described.stages],
        version=described.version,
        profile=described.profile,
        licence_policy=described.policy,
        places=described.places,
    )


def _stage(stage: StageChoices) -> pb.StageDescription:
    return pb.StageDescription(stage=stage.stage, engines=[_engine(engine) for engine in stage.engines])


def _engine(engine: EngineChoice) -> pb.EngineDescription:
    return pb.EngineDescription(
        name=engine.name,
        options=dict(engine.options),
        models=engine.models,
        licences=engine.licences,
        is_default=engine.is_default,
        choices=[
            swapper_pb2.OptionChoices(option=option, values=values) for option, values in sorted(engine.choices.items())
        ],
        missing=engine.missing,
        forbidden=engine.forbidden,
    )
