"""`masquerade audit`: exit status 1 and the number of the first wrong entry, or a head that can be written down."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from services.common.audit.anchor import anchorages, publish
from services.common.audit.chain import Entry
from services.common.audit.log import write
from services.common.records.database import Records
from services.common.store.folder import FolderStore
from services.standalone.cli.main import app


def told(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *(str(each) for each in arguments)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    add(folder, 5)
    return folder


def add(folder: Path, count: int) -> None:
    async def fill() -> None:
        records = Records(f"sqlite:///{folder / 'records.sqlite'}")
        await records.open()
        for number in range(count):
            await write(records, Entry("t", "local", "job.created", f"job_{number}"))
        await records.close()

    asyncio.run(fill())


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "records.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_whole_log_is_said_to_be_whole(data: Path) -> None:
    found = told("verify", "--data", data)
    assert found.exit_code == 0
    assert found.stdout.startswith("5 entries, as they were written")
    by_address = told("verify", "--database", f"sqlite:///{data / 'records.sqlite'}", "--json")
    plain = json.loads(by_address.stdout)
    assert (plain["ok"], plain["entries"], plain["broken"]) == (True, 5, None)
    assert f"head 5 {plain['head']['digest']}" in found.stdout


def test_a_changed_entry_is_exit_1_with_its_number(data: Path) -> None:
    change(data, "UPDATE audit SET actor = 'nobody' WHERE sequence = 3")
    found = told("verify", "--data", data, "--json")
    assert found.exit_code == 1
    assert found.stderr.startswith("AUDIT_BROKEN: ")
    assert "entry 3" in found.stderr
    assert json.loads(found.stdout)["broken"]["sequence"] == 3
    assert told("verify", "--data", data).stdout == ""


def test_anchors_find_what_was_cut_off(data: Path, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.jsonl"
    assert told("anchor", anchors, "--data", data).exit_code == 0
    add(data, 2)
    assert told("anchor", anchors, "--data", data).exit_code == 0
    assert told("anchor", anchors, "--data", data).exit_code == 0
    assert len(anchors.read_text().splitlines()) == 2
    assert "anchors that hold: 2" in told("verify", "--data", data, "--anchors", anchors).stdout
    change(data, "DELETE FROM audit WHERE sequence > 5")
    assert told("verify", "--data", data).exit_code == 0
    found = told("verify", "--data", data, "--anchors", anchors)
    assert found.exit_code == 1
    assert "entry 6" in found.stderr
    # A log that contradicts its anchors gets no new one.
    assert told("anchor", anchors, "--data", data).exit_code == 1
    assert len(anchors.read_text().splitlines()) == 2


def test_anchors_may_lie_in_the_store(data: Path) -> None:
    async def anchor() -> None:
        records = Records(f"sqlite:///{data / 'records.sqlite'}")
        await records.open()
        await publish(records, anchorages("store", FolderStore(data / "objects")))
        await records.close()

    asyncio.run(anchor())
    assert "anchors that hold: 1" in told("verify", "--data", data, "--anchors", "store").stdout
    change(data, "DELETE FROM audit WHERE sequence = 5")
    assert told("verify", "--data", data, "--anchors", "store").exit_code == 1


def test_an_export_is_a_line_an_entry(data: Path) -> None:
    rows = [json.loads(line) for line in told("export", "--data", data).stdout.splitlines()]
    assert [row["sequence"] for row in rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("command", ["verify", "export"])
def test_records_that_are_not_there_are_not_made(command: str, tmp_path: Path) -> None:
    for option, value in (("--data", tmp_path), ("--database", f"sqlite:///{tmp_path / 'records.sqlite'}")):
        found = told(command, option, value)
        assert found.exit_code == 2
        assert found.stderr.startswith("INVALID_SETTING: ")
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_none_is_not_repeated() -> None:
    found = told("verify", "--database", "mysql://user:hunter2@host/x")
    assert found.exit_code == 2
    assert "hunter2" not in found.stderr
