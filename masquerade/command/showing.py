"""Jobs as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from masquerade.client import Client, JobFailed
from masquerade.command import options
from masquerade.command.misread import Misread
from masquerade.command.progress import Step, view
from masquerade.v1 import job_pb2

if TYPE_CHECKING:
    from masquerade.client import Job, JobState, Progress

_PREFIX = "JOB_STATE_"
_STATES: Mapping[str, JobState] = {name: getattr(job_pb2, name) for name in job_pb2.JobState.keys()}  # noqa: SIM118


def state_name(state: JobState) -> str:
    """`rendering`, `failed`, ..."""
    return job_pb2.JobState.Name(state).removeprefix(_PREFIX).lower()


def state_named(name: str | None) -> JobState | None:
    """The state that a person names.

    Raises:
        Misread: there is none of this name.
    """
    if name is None:
        return None
    wanted = f"{_PREFIX}{name.upper()}"
    if wanted not in _STATES:
        known = ", ".join(name.removeprefix(_PREFIX).lower() for name, value in _STATES.items() if value)
        raise Misread("--state", f"{name!r} is no state", f"one of {known}")
    return _STATES[wanted]


def job_row(job: Job) -> tuple[str, ...]:
    """For the table of jobs."""
    progress = job.progress
    frames = f"{progress.frames_done}/{progress.frames_total}" if progress.frames_total else ""
    return (job.id, state_name(job.state), frames, options.when(job.create_time), _why(job))


def job_facts(job: Job) -> Mapping[str, str]:
    """For `jobs show`."""
    facts = {
        "id": job.id,
        "state": state_name(job.state),
        "request": job.request_id,
        "accepted": options.when(job.create_time),
        "changed": options.when(job.update_time),
        "kept until": options.when(job.expire_time),
        "same video as": job.rerender_of,
        "frames": f"{job.progress.frames_done} of {job.progress.frames_total}" if job.progress.frames_total else "",
        "failure": _why(job),
        "remedy": job.failure.remedy,
        "stage": job.failure.stage,
        "artifact": job.artifact.key,
        "record": job.record.key,
        "report": job.report.key,
    }
    for change in job.history:
        facts[f"{state_name(change.state)} (attempt {change.attempt + 1})"] = options.when(change.time)
    for each in job.publications:
        where = f"{each.publication.place}:{each.publication.name}"
        facts[f"in {where}"] = options.when(each.publish_time) if each.done else each.failure.message or "not yet"
    return facts


def description_rows(answer: job_pb2.DescribeResponse) -> Iterator[tuple[str, ...]]:
    """For `jobs describe`."""
    for stage in answer.stages:
        for engine in stage.engines:
            chosen = ", ".join(f"{name}={value}" for name, value in sorted(engine.options.items()))
            mark = " (default)" if engine.is_default else ""
            yield (stage.stage, engine.name + mark, chosen, ", ".join(engine.models), ", ".join(engine.licences))


def watched(client: Client, job: str, *, from_sequence: int, as_json: bool) -> Job:
    """Show progress until the end.

    Raises:
        JobFailed: it did not succeed.
    """
    if as_json:
        for progress in client.jobs.watch(job, from_sequence=from_sequence):
            options.print_json(progress)
    else:
        with view() as shown:
            for progress in client.jobs.watch(job, from_sequence=from_sequence):
                shown.show(_step(progress))
    ended = client.jobs.get(job)
    if ended.state != job_pb2.JOB_STATE_SUCCEEDED:
        raise JobFailed(ended)
    return ended


def _step(progress: Progress) -> Step:
    left = progress.seconds_left if progress.HasField("seconds_left") else None
    return Step(
        state_name(progress.state), progress.frames_done, progress.frames_total, progress.frames_per_second, left
    )


def _why(job: Job) -> str:
    return job.failure.message if job.state == job_pb2.JOB_STATE_FAILED else ""
