"""An output appears whole, with its record, or not at all."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import NoSpace, OutputExists, OutputUnwritable
from services.common.store.folder import FolderStore
from services.standalone.publishing import publish


@pytest.fixture
async def store(tmp_path: Path) -> FolderStore:
    """With an artifact and its record."""
    folder = FolderStore(tmp_path / "objects")
    await folder.put_bytes("local/video", b"v" * 1000)
    await folder.put_bytes("local/record", b"{}")
    return folder


async def published(store: FolderStore, out: Path, *, replaces: bool = False) -> None:
    out.parent.mkdir(exist_ok=True)
    record = out.with_name(out.name + ".json")
    await publish(
        store, artifact_key="local/video", record_key="local/record", output=out, record=record, replaces=replaces
    )


async def test_video_and_record_are_there_and_nothing_else(store: FolderStore, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a.mp4"
    await published(store, out)
    assert out.read_bytes() == b"v" * 1000
    assert sorted(path.name for path in out.parent.iterdir()) == ["a.mp4", "a.mp4.json"]


async def test_what_appeared_meanwhile_is_not_replaced(store: FolderStore, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a.mp4"
    out.parent.mkdir()
    out.write_bytes(b"precious")
    with pytest.raises(OutputExists):
        await published(store, out)
    assert out.read_bytes() == b"precious"
    await published(store, out, replaces=True)
    assert out.read_bytes() == b"v" * 1000


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, NoSpace), (errno.EIO, OutputUnwritable)])
async def test_a_disk_that_fails_while_copying_leaves_no_half_file(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def half(reading: Any, writing: Any, _length: int) -> None:
        writing.write(b"vv")
        raise OSError(number, "as told")

    monkeypatch.setattr(shutil, "copyfileobj", half)
    out = tmp_path / "out" / "a.mp4"
    with pytest.raises(error):
        await published(store, out)
    assert list(out.parent.iterdir()) == []
