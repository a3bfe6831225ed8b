"""What is wrong with an order is found before a video is opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from services.common.errors import InputMissing, InvalidSpec, NoSpace, OutputExists, OutputUnwritable
from services.standalone.order import Behind, Order, check, read_background
from tests.clips import make_clip

Make = Callable[..., Order]


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """One that is in order."""
    make_clip(tmp_path / "in.mp4", frames=2, size=(64, 48))
    return Order(source=tmp_path / "in.mp4", output=tmp_path / "out.mp4", background=Behind("blur"))


def checked(order: Order, *, replaces: bool = False) -> None:
    check(order, replaces=replaces, data_folder=order.source.parent / "data")


def test_a_sound_order_passes_and_leaves_nothing_behind(order: Order) -> None:
    checked(order)
    assert [path.name for path in order.source.parent.iterdir()] == ["in.mp4"]


def test_an_output_that_exists_is_replaced_only_by_force(order: Order) -> None:
    order.output.write_bytes(b"precious")
    with pytest.raises(OutputExists):
        checked(order)
    checked(order, replaces=True)
    assert order.output.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["nowhere/out.mp4", "in.mp4/out.mp4", "folder.mp4"])
def test_an_output_that_cannot_be_written_is_found_now(order: Order, name: str) -> None:
    (order.source.parent / "folder.mp4").mkdir()
    with pytest.raises(OutputUnwritable):
        checked(replace(order, output=order.source.parent / name), replaces=True)


def test_an_input_is_never_overwritten(order: Order) -> None:
    with pytest.raises(InvalidSpec):
        checked(replace(order, output=order.source), replaces=True)
    with pytest.raises(InvalidSpec):
        checked(replace(order, report=order.source), replaces=True)
    link = order.source.parent / "link.mp4"
    link.symlink_to(order.source)
    with pytest.raises(InvalidSpec):
        checked(replace(order, output=link), replaces=True)


def test_too_little_space_is_found_before_any_work(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(NoSpace) as caught:
        checked(order)
    assert caught.value.fields["free_bytes"] == "1000"


def test_a_suffix_that_names_no_container_and_an_order_without_effect_are_refused(order: Order) -> None:
    with pytest.raises(InvalidSpec):
        checked(replace(order, output=order.output.with_suffix(".avi")))
    with pytest.raises(InvalidSpec):
        checked(replace(order, background=None))
    with pytest.raises(InputMissing):
        checked(replace(order, source=order.source.with_name("gone.mp4")))


def test_a_background_is_a_colour_blur_a_picture_or_a_video(tmp_path: Path) -> None:
    picture = tmp_path / "wall"
    Image.new("RGB", (8, 8)).save(picture, format="PNG")
    assert read_background(str(picture)) == Behind("image", file=picture)
    assert read_background("#00ff7F") == Behind("colour", rgb=0x00FF7F)
    assert read_background("blur") == Behind("blur")
    assert read_background(None) is None
    for wrong in ("#12345", "#gggggg"):
        with pytest.raises(InvalidSpec):
            read_background(wrong)
    with pytest.raises(InputMissing):
        read_background(str(tmp_path / "gone.png"))
