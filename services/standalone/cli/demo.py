"""`masquerade demo`: a talker made from a public-domain portrait, a painted mask, a drawn background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.standalone.cli import options
from services.standalone.cli.ending import leave_failed, run, told_in_a_line


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the files of the demo.")] = Path("out"),
    data: options.Data = None,
    workers: options.Workers = None,
) -> None:
    """Make a video that impersonates nobody, and say where it is."""
    with told_in_a_line():
        from masquerade.command.progress import view
        from services.standalone.demo import make_demo
        from services.standalone.jobs import JobFailed
        from services.standalone.premises import at_work

        chosen = options.flags(data=data, workers=workers)
        settings = options.load_settings(chosen)

        async def work() -> dict[str, Path]:
            with view() as shown:
                return await at_work(settings, chosen, lambda place: make_demo(place, out, shown), say=shown.say)

        try:
            made = run(work)
        except JobFailed as failed:
            leave_failed(failed, data=settings.data)
        else:
            for what, path in made.items():
                print(f"{what:<16}{path}")
