"""How the command ends: one line, one status, whatever happened."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from services.common.errors import DataFolderBusy, InvalidSpec, MasqueradeError, ModelMissing, ObjectCorrupt
from services.standalone.cli.ending import run, told_in_a_line


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSpec(field="--keep", problem="two\nlines"), 2),
        (ModelMissing(model="facemesh"), 3),
        (ObjectCorrupt(key="a/b"), 1),
        (DataFolderBusy(path="/data", pid="7"), 2),
    ],
    ids=lambda value: value.reason if isinstance(value, MasqueradeError) else str(value),
)
def test_a_typed_error_is_one_line_with_its_reason_and_remedy(
    error: MasqueradeError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, told_in_a_line():
        raise error
    told = capsys.readouterr()
    assert caught.value.code == code
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith(f"{error.reason}: ")
    assert " ".join(error.remedy.split()) in told.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_the_work_put_its_things_in_order_and_exits_130(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    tidied: list[str] = []

    async def work() -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.05)
            tidied.append("put in order")

    with pytest.raises(SystemExit) as caught, told_in_a_line():
        run(work)
    assert (caught.value.code, tidied) == (130, ["put in order"])
    assert capsys.readouterr().err.startswith("CANCELLED: ")
