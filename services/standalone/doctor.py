"""What is missing on this machine, and how to mend it: one check a subject, each answering in people's words."""

from __future__ import annotations

import importlib.metadata
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.common.error_base import MasqueradeError
from services.standalone import system_libraries

GIB = 1 << 30
LEAST_DISK_BYTES = 2 * GIB
LEAST_SHARED_BYTES = 256 << 20
"""Half of it is the default ring; the other half is what else lives there."""

CONTESTED = ("onnxruntime", "cv2")
"""Modules that several distributions bring: installed together they overwrite each other's files."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        subject: what was looked at.
        is_well: whether nothing needs mending.
        detail: what was seen.
        remedy: what to do; empty if all is well.
    """

    subject: str
    is_well: bool
    detail: str
    remedy: str = ""


def examine(data_folder: Path, model_repository: Path) -> list[Finding]:
    """All checks that need no network, in the order in which they should be mended."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _system_libraries,
        _contested_modules,
        lambda: _models(model_repository),
        _sqlite,
        lambda: _disk(data_folder),
        _shared_memory,
    ]
    return [finding for check in checks for finding in check()]


def owners(module: str) -> list[str]:
    """Distributions that bring a top-level module, by name."""
    return sorted(set(importlib.metadata.packages_distributions().get(module, [])))


def _python() -> Iterator[Finding]:
    version = sys.version.split()[0]
    is_well = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding("python", is_well, version, "" if is_well else "use Python 3.11: make setup PYTHON=python3.11")


def _system_libraries() -> Iterator[Finding]:
    problem = system_libraries.problem()
    remedy = f"as root: {system_libraries.REMEDY}" if problem else ""
    yield Finding("system libraries", problem is None, problem or "libGL and libX11 load", remedy)


def _contested_modules() -> Iterator[Finding]:
    for module in CONTESTED:
        found = owners(module)
        remedy = "make .venv anew from one lock: rm -rf .venv && make setup"
        yield Finding(
            f"module {module}", len(found) == 1, ", ".join(found) or "absent", "" if len(found) == 1 else remedy
        )


def _models(repository: Path) -> Iterator[Finding]:
    from services.standalone.models.pull import verify

    try:
        states = verify(repository)
    except MasqueradeError as error:
        yield Finding("models", False, str(error), "masquerade models pull --profile starter")
        return
    for state in states:
        if state.model.profile != "starter" and state.state in ("missing", "not offered"):
            continue  # Absent models of other profiles are a choice, not a fault.
        is_well = state.state == "ready"
        remedy = "" if is_well else "masquerade models pull --profile starter"
        detail = "weights are the pinned ones" if is_well else f"{state.state}: {state.problem}".rstrip(": ")
        yield Finding(f"model {state.model.name}", is_well, detail, remedy)


def _sqlite() -> Iterator[Finding]:
    version = sqlite3.sqlite_version
    # The durable engine writes sub-second times from Python 3.12 on, which older SQLite answers with NULL.
    is_well = sys.version_info < (3, 12) or sqlite3.sqlite_version_info >= (3, 42)
    yield Finding(
        "sqlite", is_well, version, "" if is_well else "use Python 3.11, or a Python with SQLite 3.42 or newer"
    )


def _disk(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(folder)).free
    is_well = free >= LEAST_DISK_BYTES
    remedy = "" if is_well else "free some space, or choose another folder: --data DIR"
    yield Finding("disk", is_well, f"{free / GIB:.1f} GiB free under {folder}", remedy)


def _shared_memory() -> Iterator[Finding]:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        yield Finding("shared memory", False, "/dev/shm is absent", "mount a tmpfs on /dev/shm")
        return
    free = shutil.disk_usage(folder).free
    is_well = free >= LEAST_SHARED_BYTES
    remedy = "" if is_well else "make /dev/shm larger: in a container, an emptyDir with medium Memory or --shm-size=1g"
    yield Finding("shared memory", is_well, f"{free / GIB:.1f} GiB free", remedy)


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest parent that exists."""
    return next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
