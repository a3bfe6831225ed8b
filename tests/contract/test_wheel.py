"""What clients install: a wheel that works outside of the checkout, with a command that has the remote half alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network, of a copy: nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "masquerade", "pyproject.toml", "README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    for name in [*listed.stdout.split(), "LICENSE"]:
        if (ROOT / name).is_file():
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", folder, folder / "source"], check=True, timeout=100, capture_output=True)
    (built,) = folder.glob("masquerade-*.whl")
    return built


def outside(wheel: Path, folder: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Python with the unpacked wheel and no checkout."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return subprocess.run(
        [sys.executable, "-W", "error", *(["-c", code] if code else arguments)],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "site"), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_wheel_holds_the_client_and_no_service(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        metadata = packed.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        entries = packed.read(next(name for name in names if name.endswith("/entry_points.txt"))).decode()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"masquerade"}
    assert {"masquerade/py.typed", "masquerade/client/sync.py", "masquerade/v1/job_pb2.pyi"} <= set(names)
    assert "Provides-Extra: cli" in metadata
    assert 'Requires-Dist: typer>=0.20; extra == "cli"' in metadata
    assert "masquerade = masquerade.command.main:main" in entries


def test_the_client_is_imported_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    code = "import masquerade.client as c, sys; print(c.__file__); assert 'services' not in sys.modules; c.Client()"
    answer = outside(wheel, tmp_path, code=code)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(str(tmp_path))


def test_its_command_has_the_remote_half_alone(wheel: Path, tmp_path: Path) -> None:
    answer = outside(wheel, tmp_path, "-m", "masquerade.command", "--help")
    assert answer.returncode == 0, answer.stderr
    assert all(name in answer.stdout for name in ("jobs", "identities", "assets"))
    assert "doctor" not in answer.stdout
    answer = outside(wheel, tmp_path, "-m", "masquerade.command", "jobs", "list", "--endpoint", "127.0.0.1:1")
    assert answer.returncode == 1
    assert answer.stderr.startswith("UNAVAILABLE: ")
    assert answer.stderr.count("\n") == 1


def test_without_its_extra_the_command_says_what_to_install(wheel: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom masquerade.command.main import main\nmain()"
    answer = outside(wheel, tmp_path, code=code)
    assert answer.returncode == 3
    assert "pip install 'masquerade[cli]'" in answer.stderr
