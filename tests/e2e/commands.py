"""The command as a person runs it: a process of its own, in its own session, so that what it leaves can be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_S = 120


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    left: list[str]
    """Command lines of processes of its session that outlived it."""


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """`masquerade` with these arguments, running, with nobody at a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "services.standalone", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], *, within_s: float = RUN_S) -> Ended:
    """Wait for its end."""
    out, err = process.communicate(timeout=within_s)
    return Ended(process.returncode, out, err, left_of(process.pid))


def run(*arguments: str | Path, **environment: str) -> Ended:
    """Start and wait."""
    return ended(start(*arguments, **environment))


def left_of(session: int) -> list[str]:
    """Processes of a session that still run; the ones about to exit get a moment."""
    alive = [process for process in psutil.process_iter() if _session_of(process) == session]
    _, alive = psutil.wait_procs(alive, timeout=5)
    return [" ".join(process.cmdline()) for process in alive]


def _session_of(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return -1
