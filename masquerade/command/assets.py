"""`masquerade assets`: files in the mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masquerade.command import options
from masquerade.command.ending import told_in_a_line

assets = typer.Typer(help="Files in the mesh: videos, portraits, backgrounds.", no_args_is_help=True)


@assets.command()
def put(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """Store files; one that broke off is taken up where it was. Prints their ids."""
    from masquerade.command.transferring import transfer

    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        for file in files:
            with transfer(f"storing {file.name}") as advance:
                asset = client.assets.upload(file, advance=advance)
            options.print_json(asset) if as_json else print(asset.id)


@assets.command(name="list")
def list_assets(
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """All files, newest first."""
    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        found = client.assets.list()
        if as_json:
            for asset in found:
                options.print_json(asset)
            return
        options.print_table(
            ("id", "name", "size", "stored", "kept until"),
            (
                (
                    each.id,
                    each.name,
                    options.size(each.size_bytes),
                    *map(options.when, (each.create_time, each.expire_time)),
                )
                for each in found
            ),
            narrow=4,
            nothing="no assets",
        )


@assets.command()
def fetch(
    asset: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to.", show_default=False)],
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
) -> None:
    """Fetch a file."""
    from masquerade.command.transferring import transfer

    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        known = client.assets.get(asset)
        with transfer(f"fetching {known.name}") as advance:
            print(client.assets.download(asset, output, digest=known.digest or None, advance=advance))


@assets.command()
def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", show_default=False)],
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
) -> None:
    """Delete files that no running job and no identity uses."""
    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        for asset in ids:
            client.assets.delete(asset)
