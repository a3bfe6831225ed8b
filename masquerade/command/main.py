"""The command that `pip install masquerade[cli]` gives: its remote half, for people who run no mesh themselves."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        import typer
    except ImportError:
        print("DEPENDENCY_MISSING: the command needs typer and rich. pip install 'masquerade[cli]'", file=sys.stderr)
        sys.exit(3)

    from masquerade.command.assets import assets
    from masquerade.command.identities import identities
    from masquerade.command.jobs import jobs

    app = typer.Typer(
        name="masquerade",
        help="Whose face, which background: videos transformed by a mesh of services.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for title, part in (("jobs", jobs), ("identities", identities), ("assets", assets)):
        app.add_typer(part, name=title)
    app(prog_name="masquerade")
