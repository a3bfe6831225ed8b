"""What a person asked the command to do, and everything wrong with it that can be found without opening a video."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import InputMissing, InvalidSpec, NoSpace, NotAVideo, OutputExists, OutputUnwritable
from services.common.media import signatures, structure
from services.standalone.consent import Consent
from services.standalone.ranges import Range

CONTAINERS = ("mp4", "mov", "mkv", "webm")
STATING_LENGTH = ("mp4", "matroska", "avi")
"""Containers that say at their beginning how long they are: a few reads tell half a file from a whole one."""

MIB = 1 << 20
LEAST_FREE_BYTES = 8 * MIB
COPIES_IN_STORE = 3
"""The source, its rendered segments, the finished file: about one size each."""

_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True, slots=True)
class Face:
    """A portrait to put on. A drawn one brings its landmarks: 478 x, y, z triples as float32, little-endian."""

    picture: Path
    consent: Consent
    landmarks: bytes | None = None


@dataclass(frozen=True, slots=True)
class Behind:
    """What is to be behind the person: `image` and `video` have a file, `colour` has 0xRRGGBB, `blur` nothing more."""

    kind: str
    file: Path | None = None
    rgb: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One transformation."""

    source: Path
    output: Path
    faces: tuple[Face, ...] = ()
    background: Behind | None = None
    keep: tuple[Range, ...] = ()
    apply: tuple[Range, ...] = ()
    profile: str = "starter"
    label: str = ""
    sheet: Path | None = None
    report: Path | None = None

    @property
    def container(self) -> str:
        """The output's suffix without its dot."""
        return self.output.suffix[1:].lower()

    @property
    def record(self) -> Path:
        """Where the record of what was done goes."""
        return self.output.with_name(self.output.name + ".json")


def read_background(text: str | None) -> Behind | None:
    """What `--background` says.

    Raises:
        InvalidSpec: a colour that is none.
        InputMissing: a file that cannot be read.
    """
    if text is None or text == "":
        return None
    if text == "blur":
        return Behind("blur")
    if text.startswith("#"):
        if not _COLOUR.fullmatch(text):
            raise InvalidSpec(
                field="--background", problem=f"{text[:20]!r} is no colour", remedy="write it as #RRGGBB, in quotes"
            )
        return Behind("colour", rgb=int(text[1:], 16))
    path = Path(text)
    check_readable(path)
    with path.open("rb") as file:
        kind = signatures.kind_of(file, shown=text)
    return Behind("video" if kind in signatures.CONTAINERS else "image", file=path)


def check(order: Order, *, replaces: bool, data_folder: Path) -> None:
    """Refuse now what would fail later.

    Raises:
        MasqueradeError: by what is wrong.
    """
    for path in inputs(order):
        check_readable(path)
    if order.container not in CONTAINERS:
        raise InvalidSpec(
            field="--output",
            problem=f"{order.output.name!r} does not say which container is wanted",
            remedy=f"end its name in one of .{', .'.join(CONTAINERS)}",
        )
    if not (order.faces or order.background or order.keep):
        raise InvalidSpec(
            field="--face, --background, --keep",
            problem="nothing is to be changed",
            remedy="say what is to be changed: --face PICTURE, --background FILE, or --keep A:B",
        )
    _check_looks_like_video(order.source)
    _check_outputs(order, replaces=replaces)
    _check_space(order, data_folder)


def check_readable(path: Path) -> None:
    """InputMissing unless it is a file that may be read."""
    if not path.is_file():
        detail = "it is no file" if path.exists() else "there is nothing of that name"
        raise InputMissing(path=str(path), detail=detail)
    if not os.access(path, os.R_OK):
        raise InputMissing(path=str(path), detail="you may not read it")


def inputs(order: Order) -> list[Path]:
    """All files that are read."""
    behind = [order.background.file] if order.background and order.background.file else []
    return [order.source, *(face.picture for face in order.faces), *behind]


def _check_looks_like_video(path: Path) -> None:
    """By its first bytes and stated length; what is inside only a decoder in a process of its own may look at."""
    with path.open("rb") as file:
        kind = signatures.kind_of(file, shown=str(path))
        if kind not in signatures.CONTAINERS:
            raise NotAVideo(path=str(path), found=kind)
        if kind in STATING_LENGTH:
            structure.check_whole(file, kind, size_bytes=path.stat().st_size, shown=str(path))


def _check_outputs(order: Order, *, replaces: bool) -> None:
    outputs = [path for path in (order.output, order.record, order.sheet, order.report) if path is not None]
    resolved = [path.resolve() for path in outputs]
    read = {path.resolve() for path in inputs(order)}
    for path, whole in zip(outputs, resolved, strict=True):
        if whole in read or resolved.count(whole) > 1:
            what = "is an input too" if whole in read else "is named twice"
            raise InvalidSpec(field="--output", problem=f"{path} {what}", remedy="give every file a name of its own")
    if order.output.exists() and not replaces:
        raise OutputExists(path=str(order.output))
    for path in outputs:
        _check_writable(path)


def _check_writable(path: Path) -> None:
    """By writing: permissions, read-only mounts and quotas are told apart by nothing else."""
    if path.is_dir():
        raise OutputUnwritable(path=str(path), detail="it is a folder")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputUnwritable(path=str(path), detail=f"there is no folder {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputUnwritable(path=str(path), detail=error.strerror or str(error)) from error


def _check_space(order: Order, data_folder: Path) -> None:
    size = order.source.stat().st_size
    _check_free(order.output.absolute().parent, size + LEAST_FREE_BYTES)
    _check_free(data_folder, COPIES_IN_STORE * size + LEAST_FREE_BYTES)


def _check_free(folder: Path, needed_bytes: int) -> None:
    existing: Sequence[Path] = [each for each in (folder, *folder.absolute().parents) if each.exists()]
    free = shutil.disk_usage(existing[0]).free
    if free < needed_bytes:
        raise NoSpace(path=str(folder), needed_bytes=needed_bytes, free_bytes=free)
