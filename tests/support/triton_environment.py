"""The environment of the tests' tritonserver: `.triton`, made once from its own lock; `python -m` this module makes it.

It is apart from the project's because the server's Python backend was built for NumPy 1.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = REPOSITORY / ".triton"
LOCK = REPOSITORY / "requirements" / "triton.lock"
LIBPYTHON = "libpython3.11.so.1.0"
_MARK = ".installed"


def library_folder() -> Path:
    """Where this Python's shared library lies, if it was built with one."""
    return Path(sysconfig.get_config_var("LIBDIR") or "/nowhere")


def missing() -> str | None:
    """What keeps the server from running here now, as a reason to skip; None where nothing does."""
    return impossible() or (None if is_made() else ".triton is absent: run `make triton`")


def impossible() -> str | None:
    """What keeps the server from ever running on this machine; None where nothing does."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.version_info[:2] != (3, 11):
        return "the tests' tritonserver needs CPython 3.11 on x86-64 Linux"
    if not _has_libpython():
        return f"{LIBPYTHON} is absent: install libpython3.11, or use a Python that is built with it"
    return None


def is_made() -> bool:
    """Whether the environment is there and belongs to the lock as it is now."""
    mark = ENVIRONMENT / _MARK
    return mark.is_file() and mark.read_text() == LOCK.read_text()


def make() -> None:
    """Make the environment; its marker is written last, so that half an environment is made again."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", ENVIRONMENT], check=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", ENVIRONMENT / "bin" / "python", "install"),
            *("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", "-r", LOCK),
        ],
        check=True,
    )
    (ENVIRONMENT / _MARK).write_text(LOCK.read_text())


def _has_libpython() -> bool:
    if (library_folder() / LIBPYTHON).is_file():
        return True
    try:
        ctypes.CDLL(LIBPYTHON)
    except OSError:
        return False
    return True


def main() -> int:
    """Make the environment if it can be used here and is not there yet; say why not otherwise."""
    reason = impossible()
    if reason is None and not is_made():
        print("installing a tritonserver for the tests into .triton (once, 98 MB)")
        try:
            make()
        except subprocess.CalledProcessError as failed:
            reason = f".triton could not be made (status {failed.returncode})"
    if reason:
        # Not a failure: the tests that need the server skip themselves and name the same reason.
        print(f"no tritonserver for the tests: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
