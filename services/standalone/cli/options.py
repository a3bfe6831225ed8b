"""Options that several commands share, and the settings that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from services.standalone.settings import StandaloneSettings

WIDE = 180
Policy: TypeAlias = Literal["commercial", "research"]
Data = Annotated[Path | None, typer.Option(help="Folder for objects, jobs and settings.", show_default=False)]
Profile = Annotated[str | None, typer.Option(help="Which models; default: starter.", show_default=False)]
Runtime = Annotated[
    str | None, typer.Option(help="Where models run: onnxruntime or triton.", show_default=False, metavar="NAME")
]
Triton = Annotated[
    str | None,
    typer.Option(help="A Triton server's gRPC; implies --runtime triton.", show_default=False, metavar="HOST:PORT"),
]
Workers = Annotated[int | None, typer.Option(help="Threads for CPU work; default: all cores.", show_default=False)]


def flags(
    *,
    data: Path | None = None,
    runtime: str | None = None,
    triton: str | None = None,
    workers: int | None = None,
    profile: str | None = None,
) -> dict[str, object]:
    """Settings from the command line, by name; what was not given is left out."""
    given = {
        "data": data,
        "runtime": "triton" if triton and runtime is None else runtime,
        "triton": triton,
        "workers": workers,
        "profile": profile,
    }
    return {name: value for name, value in given.items() if value is not None}


def load_settings(chosen: Mapping[str, object]) -> StandaloneSettings:
    """The command's settings."""
    from services.standalone.settings import StandaloneSettings

    return StandaloneSettings.load(chosen)


def console() -> Console:
    """Where tables go; wide where nobody looks at it as it is printed."""
    from rich.console import Console

    to_terminal = Console()
    return to_terminal if to_terminal.is_terminal else Console(width=WIDE)
