"""`masquerade identities`: faces to put on, each with the consent by which it is used."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer

from masquerade.command import options
from masquerade.command.ending import told_in_a_line

identities = typer.Typer(help="Faces to put on, each with its consent.", no_args_is_help=True)


@identities.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    portraits: Annotated[list[str], typer.Argument(metavar="P.jpg|ASSET...", show_default=False)],
    consent: Annotated[
        str, typer.Option(metavar="self|attested:TEXT", help="By which consent the face is used.", show_default=False)
    ],
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """Enrol a face from portraits of one person. Prints its id; what is weak about a portrait is said."""
    from masquerade.command.wanted import asset_of, parse_consent

    with told_in_a_line():
        agreed = parse_consent(consent)
        with options.client(endpoint, key_file, ca) as client:
            stored = [asset_of(client, portrait) for portrait in portraits]
            made = client.identities.create(name, portraits=stored, consent=agreed, request_id=uuid.uuid4().hex)
        if as_json:
            options.print_json(made)
            return
        for quality in made.quality:
            for warning in quality.warnings:
                print(f"note: {quality.name}: {warning}")
        print(made.id)


@identities.command(name="list")
def list_identities(
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
    as_json: options.Json = False,
) -> None:
    """All faces, newest first."""
    from masquerade.v1 import job_pb2

    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        found = client.identities.list()
        if as_json:
            for identity in found:
                options.print_json(identity)
            return
        options.print_table(
            ("id", "name", "consent", "withdrawn", "enrolled", "portraits"),
            (
                (
                    each.id,
                    each.name,
                    job_pb2.ConsentMethod.Name(each.consent.method).removeprefix("CONSENT_METHOD_").lower(),
                    options.when(each.revoke_time),
                    options.when(each.create_time),
                    str(len(each.quality)),
                )
                for each in found
            ),
            narrow=4,
            nothing="no identities",
        )


@identities.command()
def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", show_default=False)],
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
) -> None:
    """Withdraw the consent: running jobs that use the face stop without a result, its data is erased."""
    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        for identity in ids:
            client.identities.revoke_consent(identity)


@identities.command()
def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", show_default=False)],
    endpoint: options.Endpoint = None,
    key_file: options.KeyFile = None,
    ca: options.Ca = None,
) -> None:
    """Erase faces everywhere."""
    with told_in_a_line(), options.client(endpoint, key_file, ca) as client:
        for identity in ids:
            client.identities.delete(identity)
