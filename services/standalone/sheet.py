"""Contact sheets: frames of the source above the same frames of the result, to be looked at."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from services.common.arrays import Rgb
from services.common.media.container import open_media, video_of

COLUMNS = 6
CELL_WIDTH_PX = 320
CAPTION_PX = 22
GROUND = (24, 24, 28)
INK = (235, 235, 235)


def write_sheet(source: Path, result: Path, out: Path, *, source_frames: list[int], columns: int = COLUMNS) -> None:
    """Write a PNG with frames of the source in the upper row and of the result in the lower.

    Args:
        source: the video that went in.
        result: the video that came out.
        out: the PNG, replaced if it exists.
        source_frames: for each frame of the result, the index of the frame of the source it was made of.
        columns: most columns.
    """
    shown = np.unique(np.linspace(0, len(source_frames) - 1, min(columns, len(source_frames))).round().astype(int))
    before = _frames(source, [source_frames[index] for index in shown])
    after = _frames(result, [int(index) for index in shown])
    cells = [_column(*pair, number) for pair, number in zip(zip(before, after, strict=True), shown, strict=True)]
    partial = out.with_name(out.name + ".partial")
    Image.fromarray(np.concatenate(cells, axis=1)).save(partial, format="PNG")
    partial.replace(out)


def _frames(path: Path, wanted: list[int]) -> list[Rgb]:
    """Frames by presentation index, upright, at cell width; the last one stands in for what a broken count misses."""
    found: dict[int, Rgb] = {}
    with open(path, "rb") as file, open_media(file) as container:
        for index, frame in enumerate(container.decode(video_of(container))):
            if index in wanted:
                found[index] = _cell(frame)
            if index >= max(wanted):
                break
    last = found[max(found)]
    return [found.get(index, last) for index in wanted]


def _cell(frame: av.VideoFrame) -> Rgb:
    picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    turned: Rgb = np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90) % 4))
    height = round(turned.shape[0] * CELL_WIDTH_PX / turned.shape[1])
    return np.asarray(cv2.resize(turned, (CELL_WIDTH_PX, height), interpolation=cv2.INTER_AREA), np.uint8)


def _column(before: Rgb, after: Rgb, number: int) -> Rgb:
    """Caption, source, result, from top to bottom."""
    caption = Image.new("RGB", (CELL_WIDTH_PX, CAPTION_PX), GROUND)
    ImageDraw.Draw(caption).text((6, 4), f"frame {number}: before, after", INK, ImageFont.load_default(13))
    height = before.shape[0]
    after = np.asarray(cv2.resize(after, (CELL_WIDTH_PX, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.concatenate([np.asarray(caption, np.uint8), before, after], axis=0)
