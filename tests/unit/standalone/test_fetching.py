"""An input that is a link: a file while the command runs, and nothing afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.common.child import close_nursery
from services.common.errors import LinkRefused, OutputUnwritable
from services.standalone.fetching import FOLDER, on_disk
from services.standalone.settings import StandaloneSettings
from tests.support.links_server import VIDEO, serves, web

NEAR = {"link_networks": ("127.0.0.1/32",)}


@pytest.fixture(autouse=True)
def _no_children_left():
    yield
    close_nursery()


def settings_in(folder: Path) -> StandaloneSettings:
    return StandaloneSettings.load({"data": folder}, environ={})


def test_a_path_is_the_file_that_it_is(tmp_path):
    with on_disk("clips/a b.mp4", settings_in(tmp_path), {}) as path:
        assert path == Path("clips/a b.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_a_file_while_the_block_runs(tmp_path):
    with web() as site:
        site.answers["/clip.mp4"] = serves(VIDEO)
        with on_disk(site.link("/clip.mp4"), settings_in(tmp_path), NEAR) as path:
            assert path.read_bytes() == VIDEO
            assert path.is_relative_to(tmp_path / FOLDER)
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_what_killed_commands_left_is_removed_by_the_next_and_what_runs_is_not(tmp_path):
    old, new = tmp_path / FOLDER / "link-old", tmp_path / FOLDER / "link-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "video").write_bytes(VIDEO)
    os.utime(old, (0, 0))
    with pytest.raises(LinkRefused), on_disk("http://127.0.0.1/a.mp4", settings_in(tmp_path), {}):
        pass
    assert list((tmp_path / FOLDER).iterdir()) == [new]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(OutputUnwritable), on_disk("http://127.0.0.1/a.mp4", settings_in(tmp_path), {}):
        pass
