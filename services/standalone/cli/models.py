"""`masquerade models`: what models there are, and how they get here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.standalone.cli import options
from services.standalone.cli.ending import told_in_a_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from services.standalone.models.pull import ModelState, PullProgress

models = typer.Typer(no_args_is_help=True, help="List, pull and verify models.")
Repository = Annotated[Path | None, typer.Option(help="Folder with one folder for each model.", show_default=False)]
ABSENT = 3


@models.command("list")
def list_models(repository: Repository = None) -> None:
    """All models of the repository, and whether they are ready."""
    with told_in_a_line():
        from services.standalone.models import pull

        _show(pull.list_models(_folder(repository)))


@models.command()
def verify(repository: Repository = None) -> None:
    """Hash every file; exit status 3 if a file of a pulled model is not the promised one."""
    with told_in_a_line():
        from services.standalone.models import pull

        states = pull.verify(_folder(repository))
        _show(states)
        if any(state.state == "damaged" or _is_wanted(state) for state in states):
            sys.exit(ABSENT)


@models.command()
def pull(
    profile: Annotated[str, typer.Option(help="Which models.")] = "starter", repository: Repository = None
) -> None:
    """Fetch the models of a profile, convert and check them; what is there already is left alone."""
    with told_in_a_line():
        from rich.console import Console
        from rich.progress import Progress

        from services.standalone.models import pull as pulling

        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            states = pulling.pull(profile, _folder(repository), _Shown(progress), policy=_policy())
        for state in states:
            print(f"{state.model.name:<24}{state.state}{': ' + state.problem if state.problem else ''}")
        if any(state.state in ("missing", "damaged") for state in states):
            sys.exit(ABSENT)


class _Shown:
    """Told how far a pull is; one bar for each subject."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[tuple[str, str], object] = {}

    def __call__(self, told: PullProgress) -> None:
        bar = self._bars.get((told.step, told.subject))
        if bar is None:
            bar = self._bars[told.step, told.subject] = self._progress.add_task(f"{told.step} {told.subject}")
        self._progress.update(bar, total=told.total or None, completed=told.done)  # type: ignore[arg-type]


def _is_wanted(state: ModelState) -> bool:
    """Whether its absence is a fault: the starter's models are; others are a choice."""
    return state.model.profile == "starter" and state.state == "missing"


def _show(states: Sequence[ModelState]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("model", "profile", "state", "licence", ""):
        table.add_column(title, overflow="fold")
    for state in states:
        table.add_row(state.model.name, state.model.profile, state.state, state.model.licence.name, state.problem)
    options.console().print(table)


def _folder(repository: Path | None) -> Path:
    return repository or options.load_settings({}).model_repository


def _policy() -> options.Policy:
    return options.load_settings({}).policy
