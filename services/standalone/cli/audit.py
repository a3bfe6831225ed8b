"""`masquerade audit`: whether the log of who did what to whose face is what was written."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from services.standalone.cli import options
from services.standalone.cli.ending import run, told_in_a_line

if TYPE_CHECKING:
    from services.common.audit.verify import Verdict
    from services.common.records.database import Records

T = TypeVar("T")
Database = Annotated[
    str | None,
    typer.Option(
        help="postgresql://... or sqlite:////path; default: the one of the settings.", show_default=False, metavar="URL"
    ),
]
audit = typer.Typer(no_args_is_help=True, help="Verify, anchor and export the audit log.")


@audit.command()
def verify(
    data: options.Data = None,
    database: Database = None,
    anchors: Annotated[
        str, typer.Option(help="File of anchored heads, or `store` for those in the objects' store.", metavar="FILE")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Walk the whole log; exit status 1, and the first entry that is wrong, if it is not what was written."""
    with told_in_a_line():
        from services.common.audit import anchor
        from services.common.audit import verify as verifying
        from services.common.store.opening import open_store

        async def look(records: Records) -> Verdict:
            store = open_store(options.load_settings(options.flags(data=data)))
            try:
                known = [each for place in anchor.anchorages(anchors, store) for each in await place.all()]
            finally:
                await store.close()
            return await verifying.verify(records, known)

        found = _with_records(data, database, look)
        if as_json:
            print(json.dumps({"ok": found.broken is None, **asdict(found)}))
        elif found.broken is None:
            print(f"{found.entries} entries, as they were written; anchors that hold: {found.anchors}")
            if found.head is not None:
                print(f"head {found.head.sequence} {found.head.digest}")
        found.judge()


@audit.command("anchor")
def put_anchor(
    file: Annotated[Path, typer.Argument(help="A line is added at its end; best on another machine's disk.")],
    data: options.Data = None,
    database: Database = None,
) -> None:
    """Verify the log against the file, and add the newest entry to it."""
    with told_in_a_line():
        from services.common.audit import anchor
        from services.common.audit import verify as verifying

        async def publish(records: Records) -> anchor.Anchor | None:
            place = anchor.FileAnchorage(file)
            known = await place.all() if file.exists() else ()
            (await verifying.verify(records, known)).judge()
            return await anchor.publish(records, [place], known=known[-1] if known else None)

        newest = _with_records(data, database, publish)
        print("the log is empty" if newest is None else f"head {newest.sequence} {newest.digest}")


@audit.command()
def export(data: options.Data = None, database: Database = None) -> None:
    """Print each entry as a line of JSON, as it is stored."""
    with told_in_a_line():
        from services.common.audit import reading

        async def write(records: Records) -> None:
            async for line in reading.lines(records):
                sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

        _with_records(data, database, write)


def _with_records(data: Path | None, database: str | None, work: Callable[[Records], Awaitable[T]]) -> T:
    """Do something with the records that are meant; what is not there is not made."""
    from services.common.errors import InvalidSetting
    from services.common.records.database import Records

    url = database or options.load_settings(options.flags(data=data)).records_url()
    if not url.startswith(("sqlite:///", "postgresql://")):
        # What it is must not be repeated: an address may hold a password.
        raise InvalidSetting(setting="database", problem="is neither postgresql://... nor sqlite:////path")
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite") and not file.is_file():
        raise InvalidSetting(
            setting="database" if database else "data",
            problem=f"there are no records at {file}",
            remedy="name the folder with --data, or the database with --database",
        )

    async def doing() -> T:
        records = Records(url)
        try:
            await records.open()
            return await work(records)
        finally:
            await records.close()

    return run(doing)
