"""Bad input gets an error that names what is wrong; nothing is opened beside the file, nothing is left behind (I7)."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from services.common import child, errors
from services.common.lanes.views import PlanesWanted, frame_nbytes
from services.common.media.index import MediaIndex
from services.common.store.folder import FolderStore
from services.ingest.decoding import decode_range
from services.ingest.indexing import index_video
from services.ingest.limits import MediaLimits
from services.ingest.serving import Bounds, Ingest
from services.ingest.upright import Uprighter
from tests.clips import Sound, make_clip


def whole(path: Path) -> list[int]:
    """Index and decode all: what a job does with a file at the least."""
    index = index_video(path, MediaLimits())
    numbers = [number for number, _ in decode_range(path, index, 0, index.frames)]
    assert numbers == list(range(index.frames))
    return numbers


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def damaged(whole_file: bytes, *, at: float, count: int = 400) -> bytes:
    start = int(len(whole_file) * at)
    return whole_file[:start] + random.Random(5).randbytes(count) + whole_file[start + count :]


TEXTS = {
    "hls.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "hls.m3u8": b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n",
    "concat.mp4": b"ffconcat version 1.0\nfile sibling.mp4\n",
    "concat_bare.mp4": b"file 'sibling.mp4'\nfile 'sibling.mp4'\n",
    "session.mp4": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 5004 RTP/AVP 96\r\n",
    "dash.mp4": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    "utf16.mp4": "#EXTM3U\nfile:///etc/passwd\n".encode("utf-16"),
    "bom.mp4": b"\xef\xbb\xbf#EXTM3U\nfile:///etc/passwd\n",
}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_text_that_names_other_files_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(errors.FormatRefused):
        whole(written(tmp_path / name, TEXTS[name]))


@pytest.mark.parametrize("prefix", [b"", b"\x00" * 5000, b"\n" * 5000, b"# a comment\n" * 500], ids=str)
@pytest.mark.parametrize("name", ["hls.mp4", "concat.mp4"])
def test_a_playlist_is_not_followed_however_it_begins(name: str, prefix: bytes, tmp_path: Path) -> None:
    sibling = make_clip(tmp_path / "sibling.mp4", frames=2, size=(64, 48))
    os.utime(sibling, ns=(1, 1))
    with pytest.raises((errors.FormatRefused, errors.NotAVideo)):
        whole(written(tmp_path / name, prefix + TEXTS[name]))
    assert sibling.stat().st_atime_ns == 1


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("empty.mp4", b"", "an empty file"),
        ("random.mp4", random.Random(3).randbytes(200_000), "unknown bytes"),
        ("text.mp4", b"This is no video at all.\n" * 40, "text"),
        ("subtitles.mp4", b"[Script Info]\nTitle: x\n", "text"),
        ("picture.mp4", b"\x89PNG\r\n\x1a\n" + bytes(64), "PNG picture"),
        ("archive.mp4", b"PK\x03\x04" + bytes(64), "ZIP archive"),
        ("sound.mp4", b"ID3\x03\x00" + bytes(64), "MP3 sound"),
    ],
)
def test_what_is_no_video_is_named(name: str, content: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(errors.NotAVideo) as caught:
        whole(written(tmp_path / name, content))
    assert caught.value.fields["found"] == found
    assert caught.value.fields["path"] == name


@pytest.mark.parametrize(
    "name", ["cfr_24", "vfr_matroska", "vp9_webm", "avi", "gif", "flv", "late_start", "fragmented"]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_half_a_file_is_an_error_and_not_half_a_video(
    name: str, share: float, clip: Callable[[str], Path], tmp_path: Path
) -> None:
    content = clip(name).read_bytes()
    with pytest.raises((errors.TruncatedMedia, errors.CorruptMedia)):
        whole(written(tmp_path / clip(name).name, content[: int(len(content) * share) | 1]))


def test_a_faststart_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    content = make_clip(tmp_path / "a.mp4", bf=2, container_options={"movflags": "+faststart"}).read_bytes()
    with pytest.raises(errors.TruncatedMedia) as caught:
        whole(written(tmp_path / "cut.mp4", content[: len(content) * 2 // 3]))
    assert "mdat" in caught.value.fields["detail"]


@pytest.mark.parametrize("name", ["cfr_24", "cfr_25", "interlaced", "av1_opus", "vfr_matroska", "late_start", "mpeg1"])
@pytest.mark.parametrize("at", [0.42, 0.6, 0.8])
def test_damage_inside_is_an_error_and_not_a_smear(
    name: str, at: float, clip: Callable[[str], Path], tmp_path: Path
) -> None:
    path = written(tmp_path / clip(name).name, damaged(clip(name).read_bytes(), at=at))
    with pytest.raises((errors.CorruptMedia, errors.TruncatedMedia)) as caught:
        whole(path)
    assert caught.value.fields["path"] == path.name


def test_damage_before_a_range_that_it_reaches_is_an_error_too(clip: Callable[[str], Path], tmp_path: Path) -> None:
    source = clip("b_frames_one_gop")
    index = index_video(source, MediaLimits())
    broken = written(tmp_path / "broken.mp4", damaged(source.read_bytes(), at=0.5))
    with pytest.raises(errors.CorruptMedia):
        list(decode_range(broken, index, 44, 48))


def test_a_damaged_index_is_an_error_or_the_same_video(clip: Callable[[str], Path], tmp_path: Path) -> None:
    content = clip("cfr_25").read_bytes()
    moov = content.index(b"moov")
    # Not the tables of time: any time is a possible one, and an edit list may hide what it likes.
    tables = content.index(b"stsc", moov)
    for seed in range(12):
        place = random.Random(seed).randrange(tables - 4, content.index(b"udta") - 12)
        path = written(
            tmp_path / f"{seed}.mp4", content[:place] + random.Random(seed).randbytes(8) + content[place + 8 :]
        )
        with contextlib.suppress(
            errors.CorruptMedia, errors.TruncatedMedia, errors.MediaLimitExceeded, errors.NoVideoFrames
        ):
            assert len(whole(path)) == 48


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    with pytest.raises(errors.NoVideoStream) as caught:
        whole(tmp_path / "sound.m4a")
    assert caught.value.fields["found"] == "audio"


def test_a_video_without_a_key_frame_has_no_frames(clip: Callable[[str], Path], tmp_path: Path) -> None:
    source = make_clip(tmp_path / "one_gop.ts", frames=24, gop=250, bf=0)
    content = source.read_bytes()
    with pytest.raises((errors.NoVideoFrames, errors.CorruptMedia, errors.NoVideoStream)):
        whole(written(tmp_path / "rest.ts", content[len(content) // 2 // 188 * 188 :]))


def test_encryption_is_named(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "locked.mp4",
        frames=8,
        container_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "00112233445566778899aabbccddeeff",
            "encryption_kid": "112233445566778899aabbccddeeff00",
        },
    )
    with pytest.raises(errors.EncryptedMedia):
        whole(clip)


@pytest.mark.parametrize(
    ("how", "limit"),
    [
        ({"frames": 60, "rate": 2000, "size": (64, 48)}, "frames a second"),
        ({"pts": [0, 40, 80, 120, 36_000_000], "size": (64, 48), "container": "matroska"}, "seconds"),
        ({"pts": [0, 40, 80, 90_000], "size": (64, 48), "container": "matroska"}, "seconds between two frames"),
        ({"frames": 2, "size": (64, 48), "audio": [Sound(seconds=0.1)] * 17}, "streams"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_by_name(how: dict[str, object], limit: str, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "much.mp4", **how)  # type: ignore[arg-type]
    with pytest.raises(errors.MediaLimitExceeded) as caught:
        whole(path)
    assert caught.value.fields["limit"] == limit


def test_too_many_pixels_and_too_few_are_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=2, size=(320, 240))
    with pytest.raises(errors.MediaLimitExceeded) as caught:
        index_video(path, MediaLimits(pixels=320 * 239))
    assert caught.value.fields["limit"] == "pixels"
    tiny = make_clip(
        tmp_path / "b.mp4", frames=2, size=(8, 8), draw=lambda n, w, h: [_flat(w, h), _flat(4, 4), _flat(4, 4)]
    )  # type: ignore[arg-type, return-value]
    with pytest.raises(errors.MediaTooSmall):
        whole(tiny)


def _flat(width: int, height: int):  # type: ignore[no-untyped-def]
    return np.full((height, width), 90, np.uint8)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused(transfer: int, tmp_path: Path) -> None:
    colour = {"matrix": 9, "primaries": 9, "transfer": transfer}
    path = make_clip(tmp_path / "hdr.mp4", codec="libx265", pix_fmt="yuv420p10le", frames=2, colour=colour)
    with pytest.raises(errors.HdrUnsupported):
        whole(path)


def test_a_slanted_picture_is_refused(clip: Callable[[str], Path], tmp_path: Path) -> None:
    content = clip("rotated_90").read_bytes()
    quarter = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    assert content.count(quarter[:20]) == 1
    place = content.index(quarter[:20])
    slanted = struct.pack(">5i", 0xB505, 0xB505, 0, -0xB505, 0xB505)
    with pytest.raises(errors.DisplayMatrixUnsupported):
        whole(written(tmp_path / "slanted.mp4", content[:place] + slanted + content[place + 20 :]))


def test_a_picture_that_changes_its_size_is_an_error(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "s.ts", frames=12, size=(320, 240)).read_bytes()
    large = make_clip(tmp_path / "l.ts", frames=12, size=(640, 480), start=1).read_bytes()
    both = written(tmp_path / "both.ts", small + large)
    index = index_video(both, MediaLimits())
    uprighter = Uprighter(index.picture)
    frames = decode_range(both, index, 0, index.frames)
    with pytest.raises(errors.CorruptMedia) as caught:
        assert not [uprighter.stored(frame, number=number) for number, frame in frames]
    assert "320x240 to 640x480" in caught.value.fields["detail"]


def test_what_follows_a_whole_file_does_not_matter(clip: Callable[[str], Path], tmp_path: Path) -> None:
    content = clip("cfr_25").read_bytes()
    assert len(whole(written(tmp_path / "tail.mp4", content + b"PK\x03\x04<html>" + bytes(300)))) == 48


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("streamed.webm", {"codec": "libvpx-vp9", "audio": "opus", "container_options": {"live": "1"}}),
        ("streamed.mkv", {"bf": 2, "audio": "aac", "container_options": {"live": "1"}}),
        ("quicktime.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "audio": "pcm"}),
        ("dashed.mp4", {"bf": 2, "container_options": {"movflags": "dash"}}),
        ("large_file.mp4", {"audio": "aac", "container_options": {"movflags": "+faststart+negative_cts_offsets"}}),
    ],
)
def test_unusual_but_whole_files_are_read(name: str, how: dict[str, object], tmp_path: Path) -> None:
    assert len(whole(make_clip(tmp_path / name, frames=24, **how))) == 24  # type: ignore[arg-type]


def test_boxes_in_boxes_without_end_are_no_video(tmp_path: Path) -> None:
    nested = b""
    for _ in range(3000):
        nested = struct.pack(">I4s", 8 + len(nested), b"moov") + nested
    with pytest.raises((errors.CorruptMedia, errors.NoVideoStream)):
        whole(written(tmp_path / "nested.mp4", nested))


async def test_the_service_lives_on_and_nothing_is_left(clip: Callable[[str], Path], tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    ingest = Ingest(store, Bounds())
    descriptors = len(os.listdir("/proc/self/fd"))
    good = clip("cfr_24").read_bytes()
    bad = {
        "playlist": (TEXTS["hls.mp4"], errors.FormatRefused),
        "noise": (random.Random(3).randbytes(20_000), errors.NotAVideo),
        "half": (good[: len(good) // 2], errors.TruncatedMedia),
    }
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    for name, (content, expected) in bad.items():
        await store.put_bytes(f"t/assets/{name}", content)
        for ask in (ingest.probe(f"t/assets/{name}"), ingest.index(f"t/assets/{name}", f"t/jobs/{name}/index")):
            with pytest.raises(expected):
                await ask
        assert await store.stat(f"t/jobs/{name}/index") is None
        await store.delete(f"t/assets/{name}")
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before
    await store.put_bytes("t/assets/good", good)
    _, index = await ingest.index("t/assets/good", "t/jobs/good/index")
    assert await _pulled(ingest, index) == list(range(48))
    assert _children() == 0
    child.close_nursery()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    await store.close()


async def test_a_stream_that_is_left_early_leaves_no_child(clip: Callable[[str], Path], tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    ingest = Ingest(store, Bounds())
    await store.put_file("t/assets/good", clip("cfr_24"))
    _, index = await ingest.index("t/assets/good", "t/jobs/good/index")
    views = [PlanesWanted(index.width, index.height)]
    stream = ingest.decode("t/assets/good", index, range(48), views, _inline(frame_nbytes(views, 0), 48))
    async for given in stream:
        if given[0].number == 3:
            break
    assert _children() == 1
    await stream.aclose()
    assert _children() == 0
    child.close_nursery()
    await store.close()


@pytest.mark.parametrize("name", ["cfr_24", "vfr_matroska", "mpeg1", "flv"])
async def test_a_child_that_takes_too_much_memory_is_an_error_of_the_video_at_once(
    name: str, clip: Callable[[str], Path], tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    await store.put_file("t/assets/good", clip(name))
    begin = time.monotonic()
    # At some of these sizes reads fail in the middle of a demuxer, which then looks for the next packet for ever.
    for kib in (0, 200, 400, 800, 900):
        tight = Ingest(store, Bounds(memory_bytes=kib << 10))
        # Or a library looks through a pointer that it did not get, which is what the child is there for.
        ends = (errors.MediaLimitExceeded, errors.DecoderDied)
        with contextlib.suppress(*ends) if kib else pytest.raises(errors.MediaLimitExceeded):
            await tight.index("t/assets/good", f"t/jobs/good/index{kib}")
    assert time.monotonic() - begin < 10
    info, index = await Ingest(store, Bounds()).index("t/assets/good", "t/jobs/good/index")
    assert info.bytes > 0
    views = [PlanesWanted(index.width, index.height)]
    with pytest.raises(errors.MediaLimitExceeded):
        await _drained(Ingest(store, Bounds(memory_bytes=0)), index, views)
    assert time.monotonic() - begin < 15
    child.close_nursery()
    await store.close()


async def _drained(ingest: Ingest, index: MediaIndex, views: Sequence[PlanesWanted]) -> None:
    grants = _inline(frame_nbytes(views, 0), index.frames)
    async for _ in ingest.decode("t/assets/good", index, range(index.frames), views, grants):
        pass


class _Failing(io.FileIO):
    """A file on a disk that breaks after so many reads."""

    reads_left = 1 << 20

    def read(self, count: int | None = -1, /) -> bytes:  # type: ignore[override]
        self.reads_left -= 1
        if self.reads_left < 0:
            raise OSError(errno.EIO, "the disk broke")
        return super().read(count)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["cfr_24", "vfr_matroska", "mpeg1", "flv", "avi"])
def test_a_file_that_cannot_be_read_to_its_end_is_an_error_and_not_a_search_for_ever(
    name: str, clip: Callable[[str], Path]
) -> None:
    with _Failing(clip(name)) as whole_disk:
        index_video(whole_disk, MediaLimits())
        needed = _Failing.reads_left - whole_disk.reads_left
    for reads in range(1, needed, 1 + needed // 40):
        with _Failing(clip(name)) as file:
            file.reads_left = reads
            with pytest.raises(OSError, match="the disk broke"):
                index_video(file, MediaLimits())


async def _inline(nbytes: int, count: int):  # type: ignore[no-untyped-def]
    for _ in range(count):
        yield [nbytes]


async def _pulled(ingest: Ingest, index: MediaIndex) -> list[int]:
    views = [PlanesWanted(index.width, index.height)]
    grants = _inline(frame_nbytes(views, 0), index.frames)
    decoding = ingest.decode("t/assets/good", index, range(index.frames), views, grants)
    return [frame.number async for given in decoding for frame in given]


def _children() -> int:
    """Children of our nursery that still run."""
    nursery = child._nursery._process
    assert nursery is not None
    return len(Path(f"/proc/{nursery.pid}/task/{nursery.pid}/children").read_text().split())
