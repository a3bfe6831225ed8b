"""Bad input: status 2, one line with a reason and a remedy, nothing written, no process left."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from services.common.error_table import TABLE
from tests.clips import make_clip
from tests.e2e.commands import REPOSITORY, Ended, run
from tests.support.starter_models import require_weights

Bad = Callable[[Path], Path]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound video."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=48, gop=12, bf=2, audio="aac")


def assert_refused(done: Ended, reason: str, folder: Path, *, there: set[str]) -> None:
    assert done.code == 2, done.err or done.out
    (line,) = done.err.strip().splitlines()
    assert line.startswith(f"{reason}: "), done.err
    assert any(word in line for word in TABLE[reason].remedy.split()), line
    assert "out.mp4" not in done.out
    assert done.left == []
    assert {path.name for path in folder.iterdir()} == there


def text(path: Path) -> Path:
    path.write_text("This is no video at all.\n" * 40)
    return path


def playlist(path: Path) -> Path:
    path.write_text("ffconcat version 1.0\nfile clip.mp4\n")
    return path


def sound(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return path


def without_frames(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()
    return path


def half(path: Path) -> Path:
    content = make_clip(path.with_name("whole.mp4"), frames=48, container_options={"movflags": "+faststart"})
    path.write_bytes(content.read_bytes()[: content.stat().st_size * 2 // 3])
    content.unlink()
    return path


def flipped(path: Path) -> Path:
    content = bytearray(make_clip(path, frames=96, audio="aac").read_bytes())
    chance = random.Random(5)
    for place in range(len(content) // 2, len(content) // 2 + 400):
        content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "reasons"),
    [
        (text, {"NOT_A_VIDEO"}),
        (playlist, {"FORMAT_REFUSED"}),
        (sound, {"NO_VIDEO_STREAM"}),
        (without_frames, {"NO_VIDEO_FRAMES", "NO_VIDEO_STREAM", "NOT_A_VIDEO"}),
        (half, {"TRUNCATED_MEDIA"}),
        (flipped, {"CORRUPT_MEDIA", "TRUNCATED_MEDIA"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_source_that_is_no_whole_video(make: Bad, reasons: set[str], clip: Path, tmp_path: Path) -> None:
    require_weights()
    folder = tmp_path / "work"
    folder.mkdir()
    sibling = shutil.copy(clip, folder / "clip.mp4")
    os.utime(sibling, ns=(1, 1))
    source = make(folder / "source.mp4")
    done = run("transform", source, "--background", "blur", "--data", tmp_path / "data", "-o", folder / "out.mp4")
    (reason,) = [name for name in reasons if f"{name}: " in done.err] or [min(reasons)]
    assert_refused(done, reason, folder, there={"clip.mp4", "source.mp4"})
    assert Path(sibling).stat().st_atime_ns == 1, "a file beside it was opened"
    assert "source.mp4" in done.err


def nobody(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(3).integers(60, 190, (480, 640, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("people", [0, 2])
def test_a_portrait_that_shows_not_exactly_one_face(people: int, clip: Path, portrait: Path, tmp_path: Path) -> None:
    require_weights()
    folder = tmp_path / "work"
    folder.mkdir()
    if people:
        one = np.asarray(Image.open(portrait).convert("RGB"))[:920, 310:1075]
        Image.fromarray(np.concatenate([one, one[:, ::-1]], axis=1)).save(folder / "portrait.png")
    else:
        nobody(folder / "portrait.png")
    arguments = ["transform", clip, "--face", folder / "portrait.png", "--consent", "self"]
    done = run(*arguments, "--data", tmp_path / "data", "-o", folder / "out.mp4")
    reason = "SEVERAL_FACES_IN_PORTRAIT" if people else "NO_FACE_IN_PORTRAIT"
    assert_refused(done, reason, folder, there={"portrait.png"})
    assert "portrait.png" in done.err


def test_a_face_without_consent(clip: Path, portrait: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    arguments = ["transform", clip, "--face", portrait, "--data", tmp_path / "data", "-o", folder / "out.mp4"]
    assert_refused(run(*arguments), "CONSENT_REQUIRED", folder, there=set())


def test_an_output_that_exists_or_cannot_be_written(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "out.mp4").write_bytes(b"precious")
    arguments = ["transform", clip, "--background", "blur", "--data", tmp_path / "data", "-o"]
    assert_refused(run(*arguments, folder / "out.mp4"), "OUTPUT_EXISTS", folder, there={"out.mp4"})
    assert_refused(run(*arguments, folder / "no" / "out.mp4"), "OUTPUT_UNWRITABLE", folder, there={"out.mp4"})
    assert (folder / "out.mp4").read_bytes() == b"precious"


def test_a_model_whose_bytes_are_not_the_promised_ones(clip: Path, tmp_path: Path) -> None:
    require_weights()
    folder, repository = tmp_path / "work", tmp_path / "models"
    folder.mkdir()
    shutil.copytree(REPOSITORY / "model_repository", repository, ignore=shutil.ignore_patterns("*.whl", ".cache"))
    weights = repository / "selfie" / "1" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    arguments = ["transform", clip, "--background", "blur", "--data", tmp_path / "data", "-o", folder / "out.mp4"]
    done = run(*arguments, MASQUERADE_MODEL_REPOSITORY=str(repository))
    assert_refused(done, "MODEL_DIGEST_MISMATCH", folder, there=set())


def test_a_triton_that_is_named_and_not_there(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    arguments = ["transform", clip, "--background", "blur", "--triton", "127.0.0.1:9", "--data", tmp_path / "data"]
    assert_refused(run(*arguments, "-o", folder / "out.mp4"), "RUNTIME_UNAVAILABLE", folder, there=set())
