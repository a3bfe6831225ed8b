"""What is added to each network so that its inputs are pictures and its outputs are answers.

Inputs are uint8 RGB, a quarter of the bytes of float32 on every wire; scaling, anchors, and the merging of landmarks
are arithmetic of the graph, so that no caller repeats them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.standalone.models.graph import FLOAT, UINT8, TensorSpec
from services.standalone.models.translation import NHWC, Translation

IMAGE = "image"
"""Name of every model's input: (batch, height, width, 3) uint8 RGB."""

Answer = Callable[[Translation], list[TensorSpec]]
"""Adds the last nodes of a graph and answers what it gives out."""

_MESH_POINTS = 468
_IRIS_POINTS = 5
_EYE_RING = 16
"""The first 16 points of an eye's region are the eye's rim; its mean depth is the iris's depth."""


def pictures(translation: Translation, *, scale: float, shift: float) -> TensorSpec:
    """Begin a graph: uint8 pixels times `scale` plus `shift` is what the network was trained on."""
    graph = translation.graph
    tensor = translation.source.inputs[0]
    value = graph.emit("Cast", [IMAGE], to=FLOAT)
    value = graph.emit("Mul", [value, graph.floats(scale)])
    if shift:
        value = graph.emit("Add", [value, graph.floats(shift)])
    translation.put(tensor, value, NHWC)
    return TensorSpec(IMAGE, UINT8, translation.shape(tensor)[1:])


def raw(translation: Translation) -> list[TensorSpec]:
    """The network's own outputs, under their own names, each flat: for comparing with its own runtime."""
    graph = translation.graph
    specs = []
    for tensor in translation.source.outputs:
        name = translation.name(tensor)
        graph.rename(graph.emit("Flatten", [translation.read(tensor, NHWC)]), name)
        specs.append(TensorSpec(name, FLOAT, (int(np.prod(translation.shape(tensor))),)))
    return specs


def short_range_faces(translation: Translation) -> list[TensorSpec]:
    """BlazeFace, short range: 16x16 cells with 2 anchors, then 8x8 cells with 6."""
    anchors = np.concatenate([_cell_centres(16, anchors=2), _cell_centres(8, anchors=6)])
    return _faces(translation, anchors, side_px=128)


def full_range_faces(translation: Translation) -> list[TensorSpec]:
    """BlazeFace, full range: 48x48 cells with 1 anchor."""
    return _faces(translation, _cell_centres(48, anchors=1), side_px=192)


def _cell_centres(cells: int, *, anchors: int) -> NDArray[np.float32]:
    """(cells * cells * anchors, 2) x, y in 0..1, row by row, anchors of a cell side by side."""
    rows, columns = np.mgrid[0:cells, 0:cells]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=-1) / cells
    return np.repeat(centres, anchors, axis=0).astype(np.float32)


def _faces(translation: Translation, anchors: NDArray[np.float32], *, side_px: int) -> list[TensorSpec]:
    """Boxes and keypoints in 0..1 of the picture and scores in 0..1, one for each anchor; overlaps are not merged."""
    graph = translation.graph
    regressors, logits = (translation.read(tensor, NHWC) for tensor in translation.source.outputs)
    count = len(anchors)
    scaled = graph.emit("Mul", [regressors, graph.floats(1 / side_px)])
    centre = graph.emit("Add", [graph.slice(scaled, 0, 2, axis=2), graph.floats(anchors[None])])
    half = graph.emit("Mul", [graph.slice(scaled, 2, 4, axis=2), graph.floats(0.5)])
    corners = [graph.emit("Sub", [centre, half]), graph.emit("Add", [centre, half])]
    graph.rename(graph.emit("Concat", corners, axis=2), "boxes")
    offsets = graph.emit("Reshape", [graph.slice(scaled, 4, 16, axis=2), graph.integers([0, count, 6, 2])])
    graph.rename(graph.emit("Add", [offsets, graph.floats(anchors[None, :, None])]), "keypoints")
    # The publisher's own decoder clips logits to +-100 before the sigmoid.
    clipped = graph.emit("Clip", [logits, graph.floats(-100), graph.floats(100)])
    flat = graph.emit("Reshape", [graph.emit("Sigmoid", [clipped]), graph.integers([0, count])])
    graph.rename(flat, "scores")
    return [
        TensorSpec("boxes", FLOAT, (count, 4)),
        TensorSpec("keypoints", FLOAT, (count, 6, 2)),
        TensorSpec("scores", FLOAT, (count,)),
    ]


def face_mesh(translation: Translation) -> list[TensorSpec]:
    """478 landmarks: the mesh, its lips and eyes replaced by their refinements in x and y, then the two irises."""
    graph = translation.graph
    mesh, lips, left_eye, right_eye, left_iris, right_iris, flag = translation.source.outputs
    lips_at, left_at, right_at = region_indices(translation)

    def points(tensor: int, axes: int) -> str:
        count = int(np.prod(translation.shape(tensor))) // axes
        return graph.emit("Reshape", [translation.read(tensor, NHWC), graph.integers([0, count, axes])])

    coarse = points(mesh, 3)
    flat = graph.slice(coarse, 0, 2, axis=2)
    depth = graph.slice(coarse, 2, 3, axis=2)
    # All x, y one after the other; each of the 478 points then takes the finest that there is of it.
    regions = (lips, left_eye, right_eye, left_iris, right_iris)
    every = graph.emit("Concat", [flat, *(points(tensor, 2) for tensor in regions)], axis=1)
    irises = [_MESH_POINTS + number for number in range(2 * _IRIS_POINTS)]
    finest = list(range(_MESH_POINTS + len(irises)))
    for place, point in enumerate([*lips_at, *left_at, *right_at, *irises]):
        finest[point] = _MESH_POINTS + place
    refined = graph.emit("Gather", [every, graph.integers(finest)], axis=1)

    def iris_depth(eye: list[int]) -> str:
        total = graph.emit("Gather", [depth, graph.integers(eye[:_EYE_RING])], axis=1)
        # Halves are added: ReduceMean sums in another order for a batch of one, and answers must not depend on that.
        count = _EYE_RING
        while count > 1:
            count //= 2
            total = graph.emit(
                "Add", [graph.slice(total, 0, count, axis=1), graph.slice(total, count, 2 * count, axis=1)]
            )
        mean = graph.emit("Mul", [total, graph.floats(1 / _EYE_RING)])
        return graph.emit("Tile", [mean, graph.integers([1, _IRIS_POINTS, 1])])

    depths = graph.emit("Concat", [depth, iris_depth(left_at), iris_depth(right_at)], axis=1)
    graph.rename(graph.emit("Concat", [refined, depths], axis=2), "points")
    presence = graph.emit("Sigmoid", [translation.read(flag, NHWC)])
    graph.rename(graph.emit("Reshape", [presence, graph.integers([-1])]), "presence")
    return [TensorSpec("points", FLOAT, (len(finest), 3)), TensorSpec("presence", FLOAT, ())]


def region_indices(translation: Translation) -> list[list[int]]:
    """Which points of the mesh lips, left eye and right eye replace: the file itself says so, in this order."""
    return [
        [int(point) for point in operator.options["subset_idxs"]]
        for operator in translation.source.operators
        if operator.kind == "Landmarks2TransformMatrix"
    ]


def person_matte(translation: Translation) -> list[TensorSpec]:
    """Probability of a person at each pixel, without the axis of one channel."""
    graph = translation.graph
    tensor = translation.source.outputs[0]
    graph.rename(graph.emit("Squeeze", [translation.read(tensor), graph.integers([1])]), "alpha")
    return [TensorSpec("alpha", FLOAT, translation.shape(tensor)[1:3])]
