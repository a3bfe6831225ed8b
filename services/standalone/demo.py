"""The demo: its talker, its face and its background are made here, so that nobody is impersonated."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from PIL import Image

from masquerade.command.progress import View
from masquerade.v1 import detector_pb2
from masquerade.v1.detector_pb2_grpc import DetectorServiceStub
from services.common.arrays import Points, Rgb
from services.common.errors import NoFaceInPortrait, OutputUnwritable
from services.common.lanes.payload import place_frames
from services.common.lanes.pictures import Frames
from services.standalone.consent import DRAWN
from services.standalone.order import Behind, Face, Order, check
from services.standalone.painted import paint
from services.standalone.premises import Premises
from services.standalone.scenery import evening
from services.standalone.talker import make_talker, portrait
from services.standalone.transforming import transform

LABEL = "Masquerade demo: synthetic face"


async def make_demo(mesh: Premises, out: Path, view: View) -> dict[str, Path]:
    """Make everything and transform it; answers the paths by what they are, the result last."""
    view.say("making the talker, the mask and the background")
    try:
        out.mkdir(parents=True, exist_ok=True)
        source = await asyncio.to_thread(_talker, out / "demo-source.mp4")
    except OSError as error:
        raise OutputUnwritable(path=str(out), detail=error.strerror) from error
    await mesh.warmed()
    mask, points = await asyncio.to_thread(paint, await landmarks(mesh, await asyncio.to_thread(portrait)))
    order = Order(
        source=source,
        output=out / "demo.mp4",
        faces=(Face(_picture(out / "demo-mask.png", mask), DRAWN, points.astype("<f4").tobytes()),),
        background=Behind("image", _picture(out / "demo-background.png", evening())),
        label=LABEL,
        sheet=out / "demo-sheet.png",
        report=out / "demo-report.json",
    )
    check(order, replaces=True, data_folder=mesh.folder.path)
    await transform(mesh, order, view, replaces=True)
    assert order.sheet is not None
    assert order.report is not None
    return {
        "source": order.source,
        "painted mask": order.faces[0].picture,
        "report": order.report,
        "contact sheet": order.sheet,
        "video": order.output,
    }


async def landmarks(mesh: Premises, picture: Rgb) -> Points:
    """Landmarks of the largest face in a picture, (478, 3) float32 in its pixels."""
    frames = Frames.of(picture[None], first_index=0, pts=[0])
    stub = DetectorServiceStub(mesh.channels["detector"])
    answer = await stub.Detect(detector_pb2.DetectRequest(frames=place_frames(frames)))
    faces = answer.frames[0].faces
    if not faces:
        raise NoFaceInPortrait(portrait="the demo's portrait")
    return np.array(faces[0].landmarks, np.float32).reshape(-1, 3)


def _talker(path: Path) -> Path:
    """Made once: an encoder may give other bytes for the same frames, and then nothing could be taken up again."""
    if not path.exists():
        partial = make_talker(path.with_name(f".{path.name}"))
        partial.replace(path)
    return path


def _picture(path: Path, rgb: Rgb) -> Path:
    Image.fromarray(rgb).save(path)
    return path
