"""The command's entrance: which commands there are, and how an error becomes one line and an exit status."""

from __future__ import annotations

import typer

app = typer.Typer(name="masquerade", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line."""
    app()
