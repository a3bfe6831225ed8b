"""One process owns a data folder, and a dead one owns nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.common.errors import DataFolderBusy, OutputUnwritable
from services.standalone.data_folder import DataFolder

REPOSITORY = Path(__file__).parents[3]
OWNER = "import sys, pathlib, time; from services.standalone.data_folder import DataFolder\n"
OWNER += "with DataFolder(pathlib.Path(sys.argv[1])): print('owned', flush=True); time.sleep(60)"


def test_a_second_owner_is_told_which_process_has_it_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "data")], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "owned\n"
        with pytest.raises(DataFolderBusy) as caught, DataFolder(tmp_path / "data"):
            pass
        assert caught.value.fields["pid"] == str(owner.pid)
        owner.kill()
    with DataFolder(tmp_path / "data"):
        pass


def test_the_owner_may_come_back(tmp_path: Path) -> None:
    for _ in range(2):
        with DataFolder(tmp_path / "data") as folder:
            assert folder.objects.is_dir()


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable) as caught, DataFolder(tmp_path / "file" / "data"):
        pass
    assert "file" in caught.value.fields["path"]
