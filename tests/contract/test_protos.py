"""The contract: clean by buf's rules, and the stubs that are committed are the ones it gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUF = ROOT / "tests/node/node_modules/.bin/buf"


def test_buf_finds_nothing_to_say() -> None:
    if not BUF.exists():
        pytest.skip("@bufbuild/buf is not installed: make node")
    answer = subprocess.run([BUF, "lint"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_the_committed_stubs_are_current() -> None:
    answer = subprocess.run(
        [sys.executable, "protos/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_every_reason_has_one_class_one_row_and_one_number() -> None:
    from masquerade.v1 import errors_pb2
    from services.common import errors

    names = {name.removeprefix("REASON_") for name in errors_pb2.Reason.DESCRIPTOR.values_by_name} - {"UNSPECIFIED"}
    classes = {
        value.reason
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.MasqueradeError) and value is not errors.MasqueradeError
    }
    assert classes == names
