"""`masquerade jobs`: hand in videos to a mesh, look after them, fetch what comes out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masquerade.command import options
from masquerade.command.ending import told_in_a_line

if TYPE_CHECKING:
    from masquerade.client import Client, Job, JobSpec

jobs = typer.Typer(help="Videos being transformed, in any mesh.", no_args_is_help=True)

GOES_ON = "the job goes on; `masquerade jobs watch` shows it, `masquerade jobs cancel` stops it"

Id = Annotated[str, typer.Argument(metavar="JOB", show_default=False)]
Ids = Annotated[list[str], typer.Argument(metavar="JOB...", show_default=False)]
Faces = Annotated[
    list[str] | None,
    typer.Option(metavar="P.jpg|IDENTITY", help="A face to put on; twice for two people, left to right."),
]
BackgroundOption = Annotated[
    str | None,
    typer.Option("--background", metavar="FILE|ASSET|blur|#RRGGBB", help="What is to be behind the person."),
]
Keep = Annotated[list[str] | None, typer.Option(metavar="A:B", help="Only this range stays; may be repeated.")]
Apply = Annotated[list[str] | None, typer.Option(metavar="A:B", help="The effect acts only here; may be repeated.")]
ConsentOption = Annotated[
    str | None, typer.Option("--consent", metavar="self|attested:TEXT", help="By which consent portraits are used.")
]
Container = Annotated[str | None, typer.Option(metavar="mp4|mov|mkv|webm", help="Of the result; default: mp4.")]
Label = Annotated[str | None, typer.Option(help="Visible text in every frame.")]
Tag = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="For your own use; may be repeated.")]
Profile = Annotated[str | None, typer.Option(help="Which models; default: the mesh's.")]
Publish = Annotated[
    list[str] | None, typer.Option(metavar="PLACE[:NAME]", help="A second place for the result; may be repeated.")
]
Priority = Annotated[int | None, typer.Option(min=0, max=9, help="0 is served first; default: 5.")]
SpecFile = Annotated[Path | None, typer.Option("--spec", help="JSON of a JobSpec to begin with.")]
Request = Annotated[str | None, typer.Option(help="Your id for this request: the same id gives the same job.")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay and show its progress.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="OUT", help="Wait, and fetch the result here.")]


@jobs.command()
def submit(
    source: Annotated[str | None, typer.Argument(metavar="IN|ASSET", show_default=False)] = None,
    face: Faces = None,
    background: BackgroundOption = None,
    keep: Keep = None,
    apply: Apply = None,
    consent: ConsentOption = None,
    container: Container = None,
    label: Label = None,
    tag: Tag = None,
    profile: Profile = None,
    publish: Publish = None,
    priority: Priority = None,
    spec: SpecFile = None,
    request_id: Request = None,
    watch: Watch = False,
    output: Output = None,
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """Hand in a video; prints the id of the job. With -o it waits and fetches the result."""
    from masquerade.command.wanted import Wanted, spec_of

    wanted = Wanted(
        source=source,
        faces=face or (),
        background=background,
        keep=keep or (),
        apply=apply or (),
        consent=consent,
        container=container or (output.suffix[1:].lower() if output else None),
        label=label,
        labels=tag or (),
        profile=profile,
        publish=publish or (),
        priority=priority,
        spec=spec,
    )
    with told_in_a_line(left=GOES_ON), options.client(endpoint, key_file, ca) as client:
        job = client.jobs.create(spec_of(client, wanted), request_id=request_id)
        _stay(client, job, watch=watch, output=output, as_json=as_json)


@jobs.command()
def rerender(
    job: Id,
    face: Faces = None,
    background: BackgroundOption = None,
    keep: Keep = None,
    apply: Apply = None,
    consent: ConsentOption = None,
    container: Container = None,
    label: Label = None,
    tag: Tag = None,
    publish: Publish = None,
    priority: Priority = None,
    spec: SpecFile = None,
    request_id: Request = None,
    watch: Watch = False,
    output: Output = None,
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """The same video with other settings, without looking at it again; what is not said stays as it was."""
    from masquerade.command.wanted import Wanted, spec_of

    wanted = Wanted(
        faces=face or (),
        background=background,
        keep=keep or (),
        apply=apply or (),
        consent=consent,
        container=container or (output.suffix[1:].lower() if output else None),
        label=label,
        labels=tag or (),
        publish=publish or (),
        priority=priority,
        spec=spec,
    )
    with told_in_a_line(left=GOES_ON), options.client(endpoint, key_file, ca) as client:
        other = spec_of(client, wanted)
        made = client.jobs.rerender(job, _changed(client.jobs.get(job).spec, other), request_id=request_id)
        _stay(client, made, watch=watch, output=output, as_json=as_json)


@jobs.command(name="list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only those in this state, such as rendering or failed.")] = None,
    tag: Tag = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """Jobs, newest first."""
    from itertools import islice

    from masquerade.command.showing import job_row, state_named
    from masquerade.command.wanted import parse_tags

    with told_in_a_line():
        wanted, labels = state_named(state), parse_tags(tag or ())
    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        listed = client.jobs.list(state=wanted, labels=labels, page_size=min(limit, 200))
        found = islice(listed, limit)
        if as_json:
            for job in found:
                options.print_json(job)
            return
        options.print_table(
            ("id", "state", "frames", "accepted", "why it failed"), map(job_row, found), narrow=4, nothing="no jobs"
        )


@jobs.command()
def show(
    job: Id,
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """All about one job."""
    from masquerade.command.showing import job_facts

    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        known = client.jobs.get(job)
        options.print_json(known) if as_json else options.print_facts(job_facts(known))


@jobs.command()
def watch(
    job: Id,
    from_sequence: Annotated[int, typer.Option(min=0, help="First step wanted; 0 tells the whole history.")] = 0,
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """Show a job's progress until it ends; exits as the job does."""
    from masquerade.command.showing import watched

    with told_in_a_line(left=GOES_ON), options.client(endpoint, key_file, ca) as client:
        watched(client, job, from_sequence=from_sequence, as_json=as_json)


@jobs.command()
def cancel(
    ids: Ids, endpoint: options.Endpoint = None, key_file: options.KeyFile = None, ca: options.Ca = None
) -> None:
    """Stop jobs; what they have finished is kept for a retry."""
    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        for job in ids:
            client.jobs.cancel(job)


@jobs.command()
def retry(
    job: Id,
    watch: Watch = False,
    output: Output = None,
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """Take up a failed or cancelled job from its finished segments."""
    with told_in_a_line(left=GOES_ON), options.client(endpoint, key_file, ca) as client:
        _stay(client, client.jobs.retry(job), watch=watch, output=output, as_json=as_json)


@jobs.command()
def fetch(
    job: Id,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Where to.", show_default=False)],
    report: Annotated[Path | None, typer.Option(metavar="R.json", help="Fetch the report too.")] = None,
    record: Annotated[Path | None, typer.Option(metavar="R.json", help="Fetch the record of what was done.")] = None,
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
) -> None:
    """Fetch the result of a job; waits for its end."""
    with told_in_a_line(left=GOES_ON), options.client(endpoint, key_file, ca) as client:
        ended = _with_result(client, job)
        for reference, path in ((ended.report, report), (ended.record, record)):
            if path is not None:
                print(client.assets.download(reference.key, path, digest=reference.digest or None))
        _fetch(client, ended, output)


@jobs.command()
def delete(
    ids: Ids, endpoint: options.Endpoint = None, key_file: options.KeyFile = None, ca: options.Ca = None
) -> None:
    """Delete jobs that have ended, with their results and face data."""
    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        for job in ids:
            client.jobs.delete(job)


@jobs.command()
def describe(
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """Engines, options, models and licences that a job can ask for."""
    from masquerade.command.showing import description_rows

    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        answer = client.jobs.describe()
        if as_json:
            options.print_json(answer)
            return
        titles = ("stage", "engine", "options", "models", "licences")
        options.print_table(titles, description_rows(answer), nothing="nothing to choose")


def _stay(client: Client, job: Job, *, watch: bool, output: Path | None, as_json: bool) -> None:
    """What `submit`, `retry` and `rerender` do once there is a job."""
    from masquerade.command.showing import watched

    options.print_json(job) if as_json else print(job.id, flush=True)
    if not (watch or output):
        return
    ended = watched(client, job.id, from_sequence=0, as_json=as_json)
    if output is not None:
        _fetch(client, ended, output)


def _with_result(client: Client, job: str) -> Job:
    """The job once it has ended; one that only could not be published has its result."""
    from masquerade.client import JobFailed

    try:
        return client.jobs.wait(job)
    except JobFailed as failed:
        if not failed.job.artifact.key:
            raise
        print(f"note: {failed.text}", file=sys.stderr)
        return failed.job


def _fetch(client: Client, job: Job, output: Path) -> None:
    from masquerade.command.transferring import transfer

    with transfer(f"fetching {output.name}") as advance:
        print(client.jobs.download(job, output, advance=advance))


def _changed(before: JobSpec, other: JobSpec) -> JobSpec:
    """What was said replaces what was asked before, field by field."""
    from masquerade.client import JobSpec

    made = JobSpec()
    made.CopyFrom(before)
    for field, _ in other.ListFields():
        made.ClearField(field.name)
    made.MergeFrom(other)
    if other.identities and not other.cast:
        made.ClearField("cast")
    return made
