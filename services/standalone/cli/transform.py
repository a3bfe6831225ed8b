"""`masquerade transform`: a video in, a video out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.standalone.cli import options
from services.standalone.cli.ending import leave_failed, run, told_in_a_line

if TYPE_CHECKING:
    from services.standalone.consent import Ask, Consent
    from services.standalone.order import Face, Order
    from services.standalone.settings import StandaloneSettings


def transform(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="The video: a file, or an http(s) link to one.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="The result: .mp4, .mov, .mkv or .webm.")
    ],
    face: Annotated[
        list[Path] | None,
        typer.Option(metavar="P.jpg", help="A portrait to put on; twice for two people, left to right."),
    ] = None,
    background: Annotated[
        str | None, typer.Option(metavar="FILE|blur|#RRGGBB", help="What is to be behind the person.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="A:B", help="Only this range stays; may be repeated.")
    ] = None,
    apply: Annotated[
        list[str] | None, typer.Option(metavar="A:B", help="The effect acts only here; may be repeated.")
    ] = None,
    consent: Annotated[
        str | None, typer.Option(metavar="self|attested:TEXT", help="By which consent the faces are used.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="SHEET.png", help="Write a contact sheet.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="R.json", help="Write what was done and measured.")] = None,
    profile: options.Profile = None,
    data: options.Data = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    runtime: options.Runtime = None,
    triton: options.Triton = None,
    workers: options.Workers = None,
) -> None:
    """Put another face on a talker's head and another background behind it."""
    with told_in_a_line():
        from services.standalone.fetching import on_disk
        from services.standalone.order import Order, check, read_background
        from services.standalone.ranges import parse_ranges

        chosen = options.flags(data=data, runtime=runtime, triton=triton, workers=workers, profile=profile)
        settings = options.load_settings(chosen)
        worn = _faces(face or [], consent, settings)
        behind = read_background(background)
        kept, acted = parse_ranges(keep or [], option="--keep"), parse_ranges(apply or [], option="--apply")
        with on_disk(source, settings, chosen) as video:
            order = Order(
                source=video,
                output=output,
                faces=worn,
                background=behind,
                keep=kept,
                apply=acted,
                profile=settings.profile,
                sheet=sheet,
                report=report,
            )
            check(order, replaces=force, data_folder=settings.data)
            carry_out(order, settings, chosen, replaces=force)


def carry_out(order: Order, settings: StandaloneSettings, chosen: dict[str, object], *, replaces: bool) -> None:
    """Run an order with its progress shown, and say where things are."""
    from masquerade.command.progress import view
    from services.standalone.jobs import JobFailed
    from services.standalone.premises import at_work
    from services.standalone.transforming import transform as transformed

    async def work() -> dict[str, object]:
        with view() as shown:
            return await at_work(
                settings, chosen, lambda place: transformed(place, order, shown, replaces=replaces), say=shown.say
            )

    try:
        report = run(work)
    except JobFailed as failed:
        leave_failed(failed, data=settings.data)
    else:
        _tell(order, report)


def _tell(order: Order, report: dict[str, object]) -> None:
    """What there is now, the video last."""
    warnings = report["warnings"]
    for warning in warnings if isinstance(warnings, list) else ():
        print(f"note: {warning}")
    for path in (order.report, order.sheet, order.record, order.output):
        if path is not None:
            print(path)


def _faces(pictures: list[Path], given: str | None, settings: StandaloneSettings) -> tuple[Face, ...]:
    from services.common.store.objects import digest_of_file
    from services.standalone.consent import Consents, parse_consent
    from services.standalone.data_folder import DataFolder
    from services.standalone.order import Face, check_readable

    answer = parse_consent(given) if given is not None else None
    consents = Consents(DataFolder(settings.data).consents)
    for picture in pictures:
        check_readable(picture)
    return tuple(
        Face(picture, consents.settle(picture.name, digest_of_file(picture), given=answer, ask=_ask_if_possible()))
        for picture in pictures
    )


def _ask_if_possible() -> Ask | None:
    return _ask if sys.stdin.isatty() and sys.stderr.isatty() else None


def _ask(portrait: str) -> Consent:
    """One question, and the words if somebody else is shown."""
    from services.common.errors import ConsentRequired
    from services.standalone.consent import ATTESTED, SELF, Consent

    typer.echo(f"Who is in {portrait}? A face is used with the consent of its person or not at all.", err=True)
    answer = typer.prompt("  (s) it is me   (a) somebody who agreed   (n) nobody agreed", default="n", err=True)
    match answer.strip().lower()[:1]:
        case "s":
            return Consent(SELF)
        case "a":
            return Consent(ATTESTED, typer.prompt("  how and when did they agree?", err=True).strip())
    raise ConsentRequired(portrait=portrait)
