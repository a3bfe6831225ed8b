"""Bad input gets one line with a stable reason and a remedy; nothing is written, no process is left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from services.common.error_table import TABLE
from services.standalone import talker
from tests.clips import make_clip
from tests.e2e import command
from tests.support.starter_models import REPOSITORY, STARTER, require_weights


class Folders(NamedTuple):
    """Where a command reads and writes."""

    inputs: Path
    outputs: Path
    data: Path

    @property
    def out(self) -> Path:
        """The output that must not appear."""
        return self.outputs / "out.mp4"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds that are well."""
    return make_clip(tmp_path_factory.mktemp("clip") / "well.mp4", frames=50, audio="aac")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data folder for all: a command that leaves it locked makes the next one fail."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def folders(tmp_path: Path, data: Path) -> Folders:
    made = Folders(tmp_path / "in", tmp_path / "out", data)
    made.inputs.mkdir()
    made.outputs.mkdir()
    return made


def refused(folders: Folders, *arguments: object, reason: str, **environment: str) -> str:
    """Run a transformation that must be refused, check all that is promised, answer the line."""
    before = sorted(folders.outputs.iterdir())
    ended = command.run("transform", *arguments, data=folders.data, **environment)
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert re.match(rf"{reason}: \S.*\. \S", lines[0]), lines[0]
    assert ended.code == TABLE[reason].exit
    assert ended.code in (2, 3)
    assert sorted(folders.outputs.iterdir()) == before
    assert not ended.left_processes
    return lines[0]


def with_blur(folders: Folders, source: Path, *, reason: str, **environment: str) -> str:
    return refused(folders, source, "--background", "blur", "-o", folders.out, reason=reason, **environment)


@pytest.mark.parametrize("name", ["letter.txt", "letter.mp4"])
def test_what_is_not_a_video_is_refused_whatever_it_is_called(folders: Folders, name: str) -> None:
    source = folders.inputs / name
    source.write_text("Dear Anna,\nit rains.\n")
    line = with_blur(folders, source, reason="NOT_A_VIDEO")
    assert str(source) in line


def test_half_a_video_is_an_error_and_never_a_short_success(folders: Folders, clip: Path) -> None:
    source = folders.inputs / "half.mp4"
    source.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    with_blur(folders, source, reason="TRUNCATED_MEDIA")


def test_flipped_bits_are_an_error_and_never_a_short_success(folders: Folders, clip: Path) -> None:
    require_weights()
    content = bytearray(clip.read_bytes())
    # In the middle of the media data: the tables stay whole, pictures do not.
    begin = content.index(b"mdat") + 4
    for place in range(begin + 20_000, begin + 24_000, 7):
        content[place] ^= 0xFF
    source = folders.inputs / "flipped.mp4"
    source.write_bytes(content)
    with_blur(folders, source, reason="CORRUPT_MEDIA")


def test_sound_alone_is_refused(folders: Folders) -> None:
    require_weights()
    source = folders.inputs / "song.m4a"
    with av.open(str(source), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with_blur(folders, source, reason="NO_VIDEO_STREAM")


def test_a_video_without_a_frame_is_refused(folders: Folders) -> None:
    require_weights()
    source = folders.inputs / "empty.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        out.start_encoding()
    with_blur(folders, source, reason="NO_VIDEO_FRAMES")


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXTINF:2,\n{sibling}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{sibling}'\n"],
    ids=["playlist", "concat script"],
)
def test_a_text_that_names_other_files_is_refused_and_they_are_not_opened(
    folders: Folders, clip: Path, text: str
) -> None:
    # Whoever opens a named pipe for reading waits for its writer: a command that followed would not end.
    sibling = folders.inputs / "sibling.ts"
    os.mkfifo(sibling)
    source = folders.inputs / "innocent.mp4"
    source.write_text(text.format(sibling=sibling))
    with_blur(folders, source, reason="FORMAT_REFUSED")


def test_a_portrait_without_a_face_is_refused_by_its_name(folders: Folders, clip: Path) -> None:
    require_weights()
    portrait = folders.inputs / "wall.png"
    Image.fromarray(np.full((480, 640, 3), 127, np.uint8)).save(portrait)
    line = refused(
        folders, clip, "--face", portrait, "--consent", "self", "-o", folders.out, reason="NO_FACE_IN_PORTRAIT"
    )
    assert "wall.png" in line


def test_a_portrait_with_several_faces_is_refused_by_its_name(folders: Folders, clip: Path) -> None:
    require_weights()
    one = cv2.resize(talker.portrait()[:360], (1024, 720), interpolation=cv2.INTER_CUBIC)
    portrait = folders.inputs / "pair.png"
    Image.fromarray(np.concatenate([one, one], axis=1)).save(portrait)
    line = refused(
        folders, clip, "--face", portrait, "--consent", "self", "-o", folders.out, reason="SEVERAL_FACES_IN_PORTRAIT"
    )
    assert "pair.png" in line


def test_without_a_terminal_consent_is_required_and_not_asked_for(folders: Folders, clip: Path) -> None:
    portrait = folders.inputs / "anna.png"
    Image.fromarray(talker.portrait()).save(portrait)
    line = refused(folders, clip, "--face", portrait, "-o", folders.out, reason="CONSENT_REQUIRED")
    assert "anna.png" in line
    assert "--consent" in line


def test_an_output_that_exists_is_left_as_it_is(folders: Folders, clip: Path) -> None:
    folders.out.write_bytes(b"precious")
    with_blur(folders, clip, reason="OUTPUT_EXISTS")
    assert folders.out.read_bytes() == b"precious"


def test_an_output_in_a_folder_that_is_not_there_is_refused(folders: Folders, clip: Path) -> None:
    out = folders.outputs / "nowhere" / "out.mp4"
    refused(folders, clip, "--background", "blur", "-o", out, reason="OUTPUT_UNWRITABLE")


def test_an_output_that_may_not_be_written_is_refused(folders: Folders, clip: Path) -> None:
    # /proc takes no new file from anybody, root included.
    refused(folders, clip, "--background", "blur", "-o", "/proc/out.mp4", reason="OUTPUT_UNWRITABLE")


def test_a_full_disk_is_refused_before_anything_is_written(folders: Folders, clip: Path) -> None:
    disk = folders.outputs.parent / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        refused(folders, clip, "--background", "blur", "-o", disk / "out.mp4", reason="NO_SPACE")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True, timeout=10)


def test_weights_that_are_not_the_promised_ones_are_refused(folders: Folders, clip: Path) -> None:
    require_weights()
    repository = folders.inputs / "models"
    for name in STARTER:
        shutil.copytree(REPOSITORY / name, repository / name)
    weights = repository / "selfie" / "1" / "model.onnx"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    line = with_blur(folders, clip, reason="MODEL_DIGEST_MISMATCH", MASQUERADE_MODEL_REPOSITORY=str(repository))
    assert "selfie" in line


def test_a_triton_that_is_named_and_not_there_is_said_to_be_absent(folders: Folders, clip: Path) -> None:
    # Port 1 is reserved; nothing listens there.
    line = refused(
        folders,
        clip,
        "--background",
        "blur",
        "-o",
        folders.out,
        "--triton",
        "127.0.0.1:1",
        reason="RUNTIME_UNAVAILABLE",
    )
    assert "127.0.0.1:1" in line
