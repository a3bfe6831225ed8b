"""The command as a person starts it: a process group of its own, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 50.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went.

    Attributes:
        code: the exit status.
        out: standard output.
        err: standard error.
        group: id of its process group.
    """

    code: int
    out: str
    err: str
    group: int

    @property
    def left_processes(self) -> bool:
        """Whether anything of its group still runs."""
        return processes_of(self.group)


def start(*arguments: object, data: Path, **environment: str) -> subprocess.Popen[str]:
    """`masquerade ...` in a session of its own, without a terminal."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MASQUERADE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "services.standalone", *map(str, arguments), "--data", str(data)],
        cwd=ROOT,
        env=own | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], *, within_s: float = LONGEST_S) -> Ended:
    """Wait for it; kill all of its group if it takes too long."""
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Ended(process.returncode, out, err, process.pid)


def run(*arguments: object, data: Path, **environment: str) -> Ended:
    """Start it and wait."""
    return ended(start(*arguments, data=data, **environment))


def processes_of(group: int, *, within_s: float = 5.0) -> bool:
    """Whether a process group has members that run; those that were told to go get a moment to do so."""
    deadline = time.monotonic() + within_s
    while _members(group):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def _members(group: int) -> list[int]:
    """Ids of its processes, without those that have ended and wait for a slow init to take note."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return found
