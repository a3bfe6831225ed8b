"""MediaPipe's three custom operators of the face mesh with attention, as plain ONNX arithmetic.

The net looks again at lips and eyes: from the first landmarks of a region it derives an upright box (a matrix from
the box to the feature map), samples the feature map in that box, finds finer landmarks there and brings them back.
A rotation needs no angle: the unit vector between two corners of the eye or mouth is its cosine and sine.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from services.standalone.models.operators import Translator
from services.standalone.models.tflite_reader import TfliteOperator
from services.standalone.models.translation import NHWC, PlaneTransform, Translation


def _region_transform(translation: Translation, operator: TfliteOperator) -> None:
    """Landmarks2TransformMatrix: the box round some landmarks, turned so that two of them lie level."""
    options, graph = operator.options, translation.graph
    corners = graph.slice(translation.read(operator.inputs[0]), 0, 2, axis=2)

    def landmarks(indices: list[int]) -> str:
        return graph.emit("Gather", [corners, graph.integers(indices)], axis=1)

    between = graph.emit("Sub", [landmarks([options["right_rotation_idx"]]), landmarks([options["left_rotation_idx"]])])
    length = graph.emit("ReduceL2", [between], axes=[2], keepdims=1)
    direction = graph.emit("Div", [between, length])  # (batch, 1, 2): cosine and sine of the region's angle
    # With target angle t and region angle a, r = t - a: cos r = cos t cos a + sin t sin a, sin r = sin t cos a - cos t
    # sin a. Rows of the product below are R(r) transposed, so that points (as rows) turn by `points @ turned`.
    cosine, sine = math.cos(options["target_rotation_radians"]), math.sin(options["target_rotation_radians"])
    mixing = graph.floats([[cosine, sine, -sine, cosine], [sine, -cosine, cosine, sine]])
    turned = graph.emit("Reshape", [graph.emit("MatMul", [direction, mixing]), graph.integers([-1, 2, 2])])

    level = graph.emit("MatMul", [landmarks(list(options["subset_idxs"])), turned])
    high = graph.emit("ReduceMax", [level], axes=[1], keepdims=1)
    low = graph.emit("ReduceMin", [level], axes=[1], keepdims=1)
    middle = graph.emit("Mul", [graph.emit("Add", [high, low]), graph.floats(0.5)])
    centre = graph.emit("MatMul", [middle, graph.emit("Transpose", [turned], perm=[0, 2, 1])])
    height, width = options["output_height"], options["output_width"]
    per_step = graph.floats([[[options["scale_x"] / width, options["scale_y"] / height]]])
    step = graph.emit("Mul", [graph.emit("Sub", [high, low]), per_step])
    linear = graph.emit("Mul", [turned, step])
    to_corner = graph.emit("MatMul", [graph.floats([[[-width / 2, -height / 2]]]), _transposed(translation, linear)])
    translation.transforms[operator.output] = PlaneTransform(
        linear=linear, offset=graph.emit("Add", [centre, to_corner])
    )


def _transposed(translation: Translation, matrix: str) -> str:
    return translation.graph.emit("Transpose", [matrix], perm=[0, 2, 1])


def _apply(translation: Translation, transform: PlaneTransform, points: str) -> str:
    moved = translation.graph.emit("MatMul", [points, _transposed(translation, transform.linear)])
    return translation.graph.emit("Add", [moved, transform.offset])


def _sample_region(translation: Translation, operator: TfliteOperator) -> None:
    """TransformTensorBilinear: the feature map seen through the box; 0 where the box leaves the map."""
    options, graph = operator.options, translation.graph
    features, matrix = operator.inputs
    height, width = options["output_height"], options["output_width"]
    rows, columns = np.mgrid[0:height, 0:width]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=-1)[None]
    places = _apply(translation, translation.transforms[matrix], graph.floats(centres))
    # From centres at +0.5 to the map's indices, whose first and last are GridSample's -1 and 1.
    places = graph.emit("Sub", [places, graph.floats(0.5)])
    places = graph.emit("Reshape", [places, graph.integers([-1, height, width, 2])])
    map_height, map_width = translation.shape(features)[1:3]
    last = graph.floats([map_width - 1, map_height - 1])
    grid = graph.emit("Sub", [graph.emit("Div", [graph.emit("Mul", [places, graph.floats(2)]), last]), graph.floats(1)])
    sampled = graph.emit(
        "GridSample",
        [translation.read(features), grid],
        mode="bilinear",
        padding_mode="zeros",
        align_corners=1,
    )
    # GridSample fades out over the last half pixel, MediaPipe's operator stops at the last index.
    inside = graph.emit(
        "And",
        [
            graph.emit("GreaterOrEqual", [places, graph.floats(0)]),
            graph.emit("LessOrEqual", [places, last]),
        ],
    )
    weight = graph.emit("ReduceMin", [graph.emit("Cast", [inside], to=int(TensorProto.FLOAT))], axes=[3], keepdims=1)
    weight = graph.emit("Reshape", [weight, graph.integers([-1, 1, height, width])])
    translation.put(operator.output, graph.emit("Mul", [sampled, weight]))


def _landmarks_back(translation: Translation, operator: TfliteOperator) -> None:
    """TransformLandmarks: points of the box in the picture's coordinates; z stays."""
    graph = translation.graph
    points = translation.read(operator.inputs[0])
    transform = translation.transforms[operator.inputs[1]]
    if translation.shape(operator.output)[-1] == 2:
        translation.put(operator.output, _apply(translation, transform, points), NHWC)
        return
    moved = _apply(translation, transform, graph.slice(points, 0, 2, axis=2))
    depth = graph.slice(points, 2, 3, axis=2)
    translation.put(operator.output, graph.emit("Concat", [moved, depth], axis=2), NHWC)


TRANSLATORS: dict[str, Translator] = {
    "Landmarks2TransformMatrix": _region_transform,
    "TransformTensorBilinear": _sample_region,
    "TransformLandmarks": _landmarks_back,
}
"""How each of the attention operators is said in ONNX."""
