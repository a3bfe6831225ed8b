"""Code blocks of a page, run as its reader would run them: in order, in one folder, against a mesh of `up`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.node_packages import FOLDER, node_program

ROOT = Path(__file__).resolve().parents[2]
PRINTED = "127.0.0.1:50050"
"""Address in pages; the test's own takes its place."""

START_S, BLOCK_S, STOP_S = 90, 200, 30
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"// (\w+\.mjs)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Attributes:
        language: as the page names it.
        text: what it holds.
        line: of the page.
    """

    language: str
    text: str
    line: int

    @property
    def starts_server(self) -> bool:
        """Whether it runs until somebody stops it."""
        return self.language == "sh" and any(line.strip().endswith("masquerade up") for line in self.text.splitlines())


def blocks_of(page: Path) -> list[Block]:
    """All code blocks of a page."""
    text = page.read_text()
    return [Block(each[1], each[2], text.count("\n", 0, each.start()) + 1) for each in _BLOCK.finditer(text)]


class Reader:
    """Somebody who follows a page: a folder, a shell's environment, a mesh."""

    def __init__(self, folder: Path, *, first_port: int) -> None:
        self.folder = folder
        self.public = f"127.0.0.1:{first_port - 1}"
        programs = folder / "bin"
        programs.mkdir()
        # `up` on ports of the test's own, data in the test's own folder; all else as in a checkout.
        (programs / "masquerade").write_text(
            f'#!/bin/sh\n[ "$1" = up ] && set -- "$@" --first-port {first_port} --metrics 127.0.0.1:0\n'
            f'export PYTHONPATH="{ROOT}"\nexec "{sys.executable}" -P -m services.standalone "$@"\n'
        )
        (programs / "masquerade").chmod(0o755)
        own = {name: value for name, value in os.environ.items() if not name.startswith("MASQUERADE_")}
        path = [str(programs), str(FOLDER / "node_modules/.bin"), str(Path(node_program()).parent), own["PATH"]]
        self.environment = own | {
            "PATH": os.pathsep.join(path),
            "XDG_DATA_HOME": str(folder / "share"),
            # Where a page names no address it means that of a mesh which nobody told where to listen.
            "MASQUERADE_ENDPOINT": self.public,
        }
        (folder / "protos").symlink_to(ROOT / "protos")
        (folder / "node_modules").symlink_to(FOLDER / "node_modules")

    @contextmanager
    def server(self, text: str) -> Iterator[None]:
        """A shell in which a block runs that starts the mesh."""
        log = (self.folder / "up.log").open("w+")
        process = subprocess.Popen(
            ["bash", "-euc", text.replace("masquerade up", "exec masquerade up")],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + START_S
            while "\nready\n" not in (self.folder / "up.log").read_text():
                assert process.poll() is None, (self.folder / "up.log").read_text()[-3000:]
                assert time.monotonic() < until, "the mesh did not get ready"
                time.sleep(0.1)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
            finally:
                log.close()

    def run(self, block: Block) -> str:
        """Run a block; gives what it printed."""
        text = block.text.replace(PRINTED, self.public)
        match block.language:
            case "sh":
                kept = self.folder / "environment"
                said = self._call(block, ["bash", "-euo", "pipefail", "-c", f"{text}\nenv -0 > {kept}"])
                self.environment = _read_environment(kept.read_bytes())
                return said
            case "python":
                environment = self.environment | {"PYTHONPATH": str(ROOT)}
                return self._call(block, [sys.executable, "-W", "error", "-c", text], environment)
            case "js":
                named = _NAMED.match(text)
                path = self.folder / (named[1] if named else f"line{block.line}.mjs")
                path.write_text(text)
                return "" if named else self._call(block, [node_program(), str(path)])
        raise AssertionError(f"line {block.line}: nobody knows how to run {block.language}")

    def _call(self, block: Block, command: list[str], environment: Mapping[str, str] | None = None) -> str:
        answer = subprocess.run(
            command,
            cwd=self.folder,
            env=environment or self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_S,
            check=False,
        )
        said = f"line {block.line}: {answer.stderr[-3000:]}\n{answer.stdout[-1000:]}"
        assert answer.returncode == 0, said
        return answer.stdout


def _read_environment(packed: bytes) -> dict[str, str]:
    pairs = (each.decode().partition("=") for each in packed.split(b"\0") if each)
    return {name: value for name, _, value in pairs if name not in ("_", "SHLVL", "PWD", "OLDPWD")}


def put_certificates(folder: Path, certificate: Path, key: Path, ca: Path) -> None:
    """The files that pages name."""
    for source, name in ((certificate, "server.pem"), (key, "server.key"), (ca, "ca.pem")):
        shutil.copy(source, folder / name)
