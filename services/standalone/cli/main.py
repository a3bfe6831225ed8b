"""The command's entrance: which commands there are.

Each command imports what it needs when it is run: `--help` must not wait for video and models.
"""

from __future__ import annotations

import typer

from masquerade.command.assets import assets
from masquerade.command.identities import identities
from masquerade.command.jobs import jobs
from services.standalone.cli.audit import audit
from services.standalone.cli.config import config
from services.standalone.cli.demo import demo
from services.standalone.cli.doctor import doctor
from services.standalone.cli.keys import keys
from services.standalone.cli.models import models
from services.standalone.cli.transform import transform
from services.standalone.cli.up import up

app = typer.Typer(
    name="masquerade",
    help="Whose face, which background: a video in, a video out, every frame in its place.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (transform, demo, up, doctor, config):
    app.command()(command)
for title, part in (("models", models), ("keys", keys), ("jobs", jobs), ("identities", identities), ("assets", assets)):
    app.add_typer(part, name=title)
app.add_typer(audit, name="audit")


def main() -> None:
    """Run the command line."""
    app(prog_name="masquerade")
