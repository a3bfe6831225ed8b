"""Options that the remote commands share, and the client that comes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from masquerade.client import Client

Endpoint = Annotated[
    str | None,
    typer.Option(
        help="The mesh: HOST:PORT or unix:/PATH; default: MASQUERADE_ENDPOINT, else the port of `masquerade up`.",
        metavar="WHERE",
        show_default=False,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="File with the key; default: MASQUERADE_KEY or MASQUERADE_KEY_FILE.", show_default=False),
]
Ca = Annotated[Path | None, typer.Option(help="PEM file with the roots to trust; implies TLS.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


FILE_WIDTH: Final = 180
"""Columns of a table that is not shown on a terminal."""

WIDE: Final = 120
"""Columns of a terminal on which tables are shown whole."""


def client(endpoint: str | None, key_file: Path | None, ca: Path | None) -> Client:
    """A client for what was said on the command line."""
    from masquerade.client import Access, Client

    return Client(access=Access.find(endpoint, key_file=key_file, ca=ca))


def print_json(message: Message) -> None:
    """One message in one line, fields by the names of the contract."""
    # At once: whoever reads the progress of a job through a pipe reads it as it happens.
    print(json.dumps(as_json(message), ensure_ascii=False), flush=True)


def as_json(message: Message) -> dict[str, Any]:
    """A message as plain values."""
    from google.protobuf import json_format

    answer: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return answer


def print_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str, narrow: int | None = None
) -> None:
    """A table for people.

    Args:
        titles: of the columns; the first holds what people copy, and is never folded.
        rows: as many cells each.
        nothing: said where there are no rows.
        narrow: so many columns are shown on a terminal that has no room for all.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    to_terminal = Console()
    console = to_terminal if to_terminal.is_terminal else Console(width=FILE_WIDTH)
    count = narrow if narrow is not None and console.width < WIDE else len(titles)
    table = Table(box=box.SIMPLE_HEAD)
    for number, title in enumerate(titles[:count]):
        table.add_column(title, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row[:count]))
    if table.row_count:
        console.print(table)
    else:
        console.print(nothing, highlight=False, markup=False)


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values, one a line; what is empty is left out."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        if value:
            print(f"{name:<{width}}  {value}")


def when(moment: Timestamp) -> str:
    """A time for people, in the zone of this machine; nothing for a time that is not set."""
    if not moment.seconds:
        return ""
    from datetime import UTC

    return moment.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("the last unit takes everything")
