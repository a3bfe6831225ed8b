"""`masquerade keys`: who may call the public services of this installation."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from services.standalone.cli import options
from services.standalone.cli.ending import run, told_in_a_line

if TYPE_CHECKING:
    from services.common.access.keys import Key
    from services.common.records.database import Records

T = TypeVar("T")
_TITLES = ("id", "tenant", "name", "state", "created", "expires")
DAY_MS = 24 * 3600 * 1000
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke keys of those who may call the public services.")


@keys.command()
def add(
    tenant: Annotated[str, typer.Option(help="Whose jobs, faces and assets its holder may see.")],
    name: Annotated[str, typer.Option(help="Who or what it is for; shown in lists.")] = "",
    expires_days: Annotated[
        float | None, typer.Option(min=0.001, help="Days for which it holds; default: until it is revoked.")
    ] = None,
    data: options.Data = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, once: it is stored as a hash alone."""
    with told_in_a_line():
        from services.common.access import keys as access
        from services.common.access.callers import LOCAL

        expires_ms = None if expires_days is None else _now_ms() + round(expires_days * DAY_MS)

        async def make(records: Records, secret: bytes) -> tuple[Key, str]:
            return await access.make(
                records, secret, tenant=tenant, actor=LOCAL.actor, name=name, expires_ms=expires_ms
            )

        key, text = _with_records(data, make)
        if as_json:
            print(json.dumps({**_plain(key), "key": text}))
        else:
            # The key alone on standard output: KEY=$(masquerade keys add --tenant studio)
            print(f"{key.id} for tenant {tenant}; this is the only time that it is shown:", file=sys.stderr)
            print(text)


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.", show_default=False)] = None,
    data: options.Data = None,
    as_json: Json = False,
) -> None:
    """All keys, newest first, without their secrets."""
    with told_in_a_line():
        from services.common.access import keys as access

        async def look(records: Records, _secret: bytes) -> list[Key]:
            return await access.list_keys(records, tenant=tenant)

        found = _with_records(data, look)
        if as_json:
            print(json.dumps([_plain(key) for key in found]))
        else:
            _show(found)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    data: options.Data = None,
    as_json: Json = False,
) -> None:
    """End a key; services that run refuse it within some seconds (keys_cached_s)."""
    with told_in_a_line():
        from services.common.access import keys as access
        from services.common.access.callers import LOCAL

        async def end(records: Records, _secret: bytes) -> Key:
            return await access.revoke(records, key_id, actor=LOCAL.actor)

        key = _with_records(data, end)
        print(json.dumps(_plain(key)) if as_json else f"{key.id} of tenant {key.tenant} is revoked")


def _with_records(data: options.Data, work: Callable[[Records, bytes], Awaitable[T]]) -> T:
    """Do something with the records; beside a running owner of the data folder as well."""
    from services.common.records.database import Records

    settings = options.load_settings(options.flags(data=data))
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def do() -> T:
        records = Records(settings.records_url())
        try:
            await records.open()
            return await work(records, settings.secret_bytes())
        finally:
            await records.close()

    return run(do)


def _plain(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "state": key.state(_now_ms()),
        "created": _time(key.created_ms),
        "expires": _time(key.expires_ms),
        "revoked": _time(key.revoked_ms),
    }


def _show(found: Sequence[Key]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in _TITLES:
        table.add_column(title, overflow="fold")
    for key in found:
        plain = _plain(key)
        table.add_row(
            *(escape(plain[title] or "-") for title in ("id", "tenant", "name", "state", "created", "expires"))
        )
    options.console().print(table)


def _time(moment_ms: int | None) -> str | None:
    if moment_ms is None:
        return None
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="seconds")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
