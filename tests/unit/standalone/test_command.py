"""The command's entrance: fast, and strict about what it does not know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
HEAVY = ("onnxruntime", "cv2", "insightface", "rembg", "av", "grpc", "dbos", "skimage", "numpy")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_the_commands_and_loads_nothing_heavy() -> None:
    code = "import sys\nfrom services.standalone.cli.main import app\n"
    code += "app(['--help'], prog_name='masquerade', standalone_mode=False)\n"
    code += f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    done = python("-c", code)
    assert done.stdout.endswith("LOADED []\n"), done.stderr
    for command in ("transform", "demo", "up", "doctor", "config", "models"):
        assert command in done.stdout


def test_help_takes_less_than_seven_tenths_of_a_second_of_cpu() -> None:
    took: list[float] = []
    for _ in range(3):
        before = os.times()
        python("-m", "services.standalone", "--help")
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
        if took[-1] < 0.7:
            return
    pytest.fail(f"CPU seconds: {took}")


def test_an_unknown_setting_in_the_environment_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    done = python("-m", "services.standalone", "config", "--data", str(tmp_path), MASQUERADE_WORKRES="3")
    assert done.returncode == 2
    assert done.stderr.startswith("UNKNOWN_SETTING: ")
    assert "workers" in done.stderr.lower()


def test_doctor_finds_this_machine_fit_or_says_what_to_do(tmp_path: Path) -> None:
    done = python("-m", "services.standalone", "doctor", "--data", str(tmp_path))
    assert done.returncode in (0, 3), done.stderr
    assert "python" in done.stdout
