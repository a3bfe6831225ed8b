"""The file formats of the contract: deterministic when written, distrustful when read."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masquerade.identity import Identity, IdentityFormatError, Picture, read_identity, write_identity
from masquerade.timeline import (
    Person,
    Shard,
    ShardRef,
    Timeline,
    TimelineFormatError,
    Track,
    TrackTextures,
    encode_points,
    read_shard,
    read_textures,
    read_timeline,
    write_shard,
    write_textures,
    write_timeline,
)


def shard_of(frames: list[int], tracks: list[int]) -> Shard:
    n = len(frames)
    points = np.random.default_rng(1).uniform(100, 400, (n, 478, 3))
    corner, encoded = encode_points(points)
    return Shard(
        frame=np.array(frames, np.int32),
        track=np.array(tracks, np.int32),
        corner=corner,
        points=encoded,
        score=np.full(n, 0.9, np.float32),
        pose=np.zeros((n, 3), np.float32),
        weight=np.ones(n, np.float32),
    )


def timeline() -> Timeline:
    return Timeline(
        width=640,
        height=360,
        frames=20,
        segments=(ShardRef(0, 0, 8, "a", "d", 8), ShardRef(1, 8, 20, "b", "e", 12)),
        tracks=(Track(0, 0, 0, 20, 20, 18, 80.5, True),),
        people=(Person(0, 0, 20, (1.0, 2.0, 3.0, 4.5), 3),),
        cuts=(5, 9),
        textures_key="t",
        textures_digest="f",
        made_by={"runtime": "onnxruntime-cpu-fp32"},
    )


def identity() -> Identity:
    rgb = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    points = np.full((478, 3), 12.5, np.float32)
    return Identity("photo", (Picture(rgb, points), Picture(rgb[:20], points)), {"width_px": 30, "warnings": ""})


def test_points_survive_a_shard_to_a_thirty_second_of_a_pixel() -> None:
    points = np.random.default_rng(1).uniform(-50, 1500, (3, 478, 3)).astype(np.float32)
    corner, encoded = encode_points(points)
    shard = dataclasses.replace(shard_of([0, 1, 2], [0, 0, 0]), corner=corner, points=encoded)
    read = read_shard(write_shard(shard))
    for row in range(3):
        assert np.abs(read.points_px(row) - points[row]).max() <= 1 / 32 + 1e-3


def test_a_face_that_fills_an_8k_frame_fits() -> None:
    points = np.zeros((1, 478, 3))
    points[0, :, 0] = np.linspace(3, 4000, 478)
    corner, encoded = encode_points(points)
    shard = dataclasses.replace(shard_of([0], [0]), corner=corner, points=encoded)
    assert np.abs(shard.points_px(0) - points[0]).max() <= 1 / 32


def test_rows_of_a_frame_are_found_by_its_number() -> None:
    shard = shard_of([3, 5, 5, 9], [0, 0, 1, 1])
    assert list(shard.rows_of(5)) == [1, 2]
    assert list(shard.rows_of(4)) == []


def test_equal_contents_are_equal_bytes() -> None:
    assert write_shard(shard_of([0, 1], [0, 0])) == write_shard(shard_of([0, 1], [0, 0]))
    assert write_identity(identity()) == write_identity(identity())
    assert write_timeline(timeline()) == write_timeline(timeline())


def test_an_index_comes_back_as_it_went() -> None:
    assert read_timeline(write_timeline(timeline())) == timeline()


def test_numpy_itself_can_open_a_shard() -> None:
    with np.load(io.BytesIO(write_shard(shard_of([0], [0]))), allow_pickle=False) as columns:
        assert columns["points"].shape == (1, 478, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"frame": np.array([1, 0], np.int32)},
        {"frame": np.array([-1, 0], np.int32)},
        {"track": np.array([0, 0], np.int32), "frame": np.array([4, 4], np.int32)},
        {"weight": np.array([0.5, np.nan], np.float32)},
        {"score": np.array([0.5, 1.5], np.float32)},
        {"pose": np.full((2, 3), np.inf, np.float32)},
    ],
)
def test_a_shard_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    columns = {
        field.name: getattr(shard_of([0, 1], [0, 0]), field.name) for field in dataclasses.fields(Shard)
    } | change
    stream = io.BytesIO()
    np.savez(stream, **columns)
    with pytest.raises(TimelineFormatError):
        read_shard(stream.getvalue())


@pytest.mark.parametrize(
    "change",
    [
        {"frame": np.array([0.0, 1.0])},
        {"points": np.zeros((2, 468, 3), np.int16)},
        {"corner": np.zeros((3, 2), np.int32)},
        {"extra": np.zeros(3)},
        {"frame": np.array([{}, {}], object)},
    ],
)
def test_a_shard_of_other_columns_is_refused(change: dict[str, Any]) -> None:
    columns = {
        field.name: getattr(shard_of([0, 1], [0, 0]), field.name) for field in dataclasses.fields(Shard)
    } | change
    stream = io.BytesIO()
    np.savez(stream, **columns)
    with pytest.raises(TimelineFormatError):
        read_shard(stream.getvalue())


def test_a_compressed_shard_is_refused_before_it_unfolds() -> None:
    stream = io.BytesIO()
    shard = shard_of([0, 1], [0, 0])
    np.savez_compressed(stream, **{field.name: getattr(shard, field.name) for field in dataclasses.fields(Shard)})
    with pytest.raises(TimelineFormatError, match="compressed"):
        read_shard(stream.getvalue())


def test_a_header_that_promises_more_than_the_file_holds_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("track", "mean", "var"):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<i4", "fortran_order": False, "shape": (1 << 40,)})
            archive.writestr(f"{name}.npy", header.getvalue())
    with pytest.raises(TimelineFormatError):
        read_textures(stream.getvalue())


def test_damaged_bytes_are_a_typed_error_wherever_the_damage_is() -> None:
    good = {"shard": write_shard(shard_of([0, 1], [0, 0])), "identity": write_identity(identity())}
    rng = np.random.default_rng(3)
    for _ in range(150):
        for kind, data in good.items():
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 4):
                damaged[place] = int(rng.integers(0, 256))
            cut = bytes(damaged[: int(rng.integers(1, len(data)))]) if rng.random() < 0.3 else bytes(damaged)
            try:
                read_shard(cut) if kind == "shard" else read_identity(cut)
            except (TimelineFormatError, IdentityFormatError):
                continue


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("frames",), 21),
        (("frames",), True),
        (("cuts",), [9, 5]),
        (("cuts",), [0]),
        (("cuts",), [20]),
        (("segments", 1, "first"), 9),
        (("tracks", 0, "person"), 4),
        (("people", 0, "box"), [1, 2, 3]),
        (("version",), 2),
        (("format",), "other"),
        (("surprise",), 1),
        (("segments",), None),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(path: tuple[Any, ...], value: object) -> None:
    document = json.loads(write_timeline(timeline()))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(TimelineFormatError):
        read_timeline(json.dumps(document).encode())


def test_textures_are_found_by_their_track(tmp_path: Path) -> None:
    mean = np.stack([np.full((64, 64, 3), 10, np.float32), np.full((64, 64, 3), 20, np.float32)])
    path = tmp_path / "textures.npz"
    with path.open("wb") as out:
        write_textures(TrackTextures(np.array([1, 4], np.int32), mean, mean * 0 + 9), out)
    with path.open("rb") as stream:
        textures = read_textures(stream)
    found = textures.of(4)
    assert found is not None
    assert float(found[0][0, 0, 0]) == 20
    assert textures.of(2) is None


def test_an_identity_comes_back_as_it_went() -> None:
    read = read_identity(write_identity(identity()))
    assert read.kind == "photo"
    assert len(read.pictures) == 2
    assert np.array_equal(read.pictures[0].rgb, identity().pictures[0].rgb)
    assert read.quality["width_px"] == 30


def test_an_identity_with_points_outside_its_picture_is_refused() -> None:
    picture = identity().pictures[0]
    far = Picture(picture.rgb, np.full((478, 3), 1e4, np.float32))
    with pytest.raises(IdentityFormatError):
        write_identity(Identity("photo", (far,)))
