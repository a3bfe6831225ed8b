"""Engine processes as a test starts, kills and asks them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Engines:
    """Processes of one test, by the names of their executors."""

    folder: Path
    settings: dict[str, Any]
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    killed: dict[int, float] = field(default_factory=dict)
    """When processes were killed, by the machine's clock."""

    def start(
        self, name: str, *, jobs: list[dict[str, Any]] | None = None, until: str = "stopped", **settings: Any
    ) -> subprocess.Popen[str]:
        """Start one; it is ready some seconds later."""
        plan = {
            "settings": {**self.settings, "executor": name, **settings},
            "folder": str(self.folder),
            "jobs": jobs or [],
            "until": until,
        }
        with (self.folder / f"{name}.err").open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.engine_process", json.dumps(plan)],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.processes[name] = process
        return process

    def ready(self, name: str) -> None:
        """Wait until it has started."""
        stdout = self.processes[name].stdout
        assert stdout is not None
        line = stdout.readline()
        assert line == "ready\n", (line, self.said(name))

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes[name]
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
        self.killed[process.pid] = time.monotonic()

    def signal(self, name: str, number: int) -> None:
        """Send a signal to it."""
        self.processes[name].send_signal(number)

    def outcome(self, name: str, *, seconds: float = 60) -> list[dict[str, Any]]:
        """What one that runs until its jobs are done said of them."""
        process = self.processes[name]
        assert process.stdout is not None
        # Not communicate: what was read along with the first line would be lost. So little fits into the pipe.
        assert process.wait(timeout=seconds) == 0, self.said(name)
        out = process.stdout.read()
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

    def said(self, name: str) -> str:
        """Its last words."""
        path = self.folder / f"{name}.err"
        return path.read_text()[-3000:] if path.exists() else ""


@contextlib.contextmanager
def engines(folder: Path, **settings: Any) -> Iterator[Engines]:
    """Engine processes that share settings; all are ended with the block."""
    found = Engines(folder, {"poll_s": 0.1, "workers": 2, **settings})
    try:
        yield found
    finally:
        for process in found.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def until(check: Callable[[], object], *, seconds: float, what: str = "") -> float:
    """Wait until something holds; seconds that it took."""
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - began
