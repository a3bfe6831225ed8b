"""TFLite's builtin operators in ONNX's words: those that our models have, no others."""

from __future__ import annotations

from collections.abc import Callable

from services.standalone.models.tflite_reader import TfliteOperator
from services.standalone.models.translation import NHWC, PlaneTransform, Translation

Translator = Callable[[Translation, TfliteOperator], None]
_VALID = 1
_AXIS_IN_NCHW = {0: 0, 1: 2, 2: 3, 3: 1}
_TO_THE_END = 2**31


def explicit_pads(
    padding: int, size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> list[int]:
    """TFLite's SAME padding in numbers: what cannot be split evenly goes to the end.

    Returns:
        Top, left, bottom, right.
    """
    if padding == _VALID:
        return [0, 0, 0, 0]
    begin, end = [], []
    for axis in (0, 1):
        steps = -(-size[axis] // stride[axis])
        reach = (steps - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1
        total = max(reach - size[axis], 0)
        begin.append(total // 2)
        end.append(total - total // 2)
    return begin + end


def _fold(translation: Translation, operator: TfliteOperator) -> None:
    """DEQUANTIZE of fp16 weights, and DENSIFY (the reader has laid sparse weights out already)."""
    translation.fold(operator.output, translation.weights(operator.inputs[0]))


def _convolution(translation: Translation, operator: TfliteOperator) -> None:
    options = operator.options
    image, weights = operator.inputs[:2]
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    # OHWI to OIHW; a depthwise kernel is 1HWC and becomes C1HW.
    kernel = translation.weights(weights).transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    inputs = [translation.read(image), translation.graph.floats(kernel)]
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        inputs.append(translation.graph.floats(translation.weights(operator.inputs[2])))
    size = kernel.shape[2:]
    stride = (options["StrideH"], options["StrideW"])
    dilation = (options["DilationHFactor"], options["DilationWFactor"])
    value = translation.graph.emit(
        "Conv",
        inputs,
        kernel_shape=list(size),
        strides=list(stride),
        dilations=list(dilation),
        pads=explicit_pads(options["Padding"], translation.shape(image)[1:3], size, stride, dilation),
        group=translation.shape(image)[3] if depthwise else 1,
    )
    translation.put(operator.output, translation.activate(value, options["FusedActivationFunction"]))


def _transposed_convolution(translation: Translation, operator: TfliteOperator) -> None:
    """MediaPipe's transposed convolution with a bias; weights are OHWI."""
    image, weights, bias = operator.inputs
    kernel = translation.weights(weights)
    stride = (operator.options["StrideH"], operator.options["StrideW"])
    spare = [
        max(
            (translation.shape(image)[axis] - 1) * stride[axis - 1]
            + kernel.shape[axis]
            - translation.shape(operator.output)[axis],
            0,
        )
        for axis in (1, 2)
    ]
    value = translation.graph.emit(
        "ConvTranspose",
        [
            translation.read(image),
            translation.graph.floats(kernel.transpose(3, 0, 1, 2)),
            translation.graph.floats(translation.weights(bias)),
        ],
        kernel_shape=list(kernel.shape[1:3]),
        strides=list(stride),
        pads=[total // 2 for total in spare] + [total - total // 2 for total in spare],
    )
    translation.put(operator.output, value)


def _arithmetic(translation: Translation, operator: TfliteOperator) -> None:
    kind = {"ADD": "Add", "MUL": "Mul"}[operator.kind]
    first, second = operator.inputs
    if first in translation.transforms:
        _scale_transform(translation, operator)
        return
    if len(translation.shape(operator.output)) == 4:
        operands = [translation.operand(tensor) for tensor in operator.inputs]
    else:
        operands = [
            translation.read(tensor)
            if translation.constant(tensor) is None
            else translation.graph.floats(translation.weights(tensor))
            for tensor in (first, second)
        ]
    value = translation.graph.emit(kind, operands)
    translation.put(operator.output, translation.activate(value, operator.options["FusedActivationFunction"]))


def _scale_transform(translation: Translation, operator: TfliteOperator) -> None:
    """A matrix of the attention operators times a constant 4x4, element by element (units of a finer map)."""
    transform = translation.transforms[operator.inputs[0]]
    factors = translation.weights(operator.inputs[1]).reshape(4, 4)
    graph = translation.graph
    translation.transforms[operator.output] = PlaneTransform(
        linear=graph.emit("Mul", [transform.linear, graph.floats(factors[None, :2, :2])]),
        offset=graph.emit("Mul", [transform.offset, graph.floats(factors[None, None, :2, 3])]),
    )


def _prelu(translation: Translation, operator: TfliteOperator) -> None:
    image, slope = operator.inputs
    translation.put(
        operator.output, translation.graph.emit("PRelu", [translation.read(image), translation.operand(slope)])
    )


def _elementwise(translation: Translation, operator: TfliteOperator) -> None:
    kind = {"RELU": "Relu", "HARD_SWISH": "HardSwish", "LOGISTIC": "Sigmoid"}[operator.kind]
    translation.put(operator.output, translation.graph.emit(kind, [translation.read(operator.inputs[0])]))


def _pad(translation: Translation, operator: TfliteOperator) -> None:
    rows = [translation.table(operator.inputs[1])[axis] for axis in (0, 3, 1, 2)]
    pads = translation.graph.integers([row[0] for row in rows] + [row[1] for row in rows])
    translation.put(operator.output, translation.graph.emit("Pad", [translation.read(operator.inputs[0]), pads]))


def _max_pool(translation: Translation, operator: TfliteOperator) -> None:
    options = operator.options
    kernel = (options["FilterHeight"], options["FilterWidth"])
    stride = (options["StrideH"], options["StrideW"])
    image = operator.inputs[0]
    value = translation.graph.emit(
        "MaxPool",
        [translation.read(image)],
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=explicit_pads(options["Padding"], translation.shape(image)[1:3], kernel, stride, (1, 1)),
    )
    translation.put(operator.output, translation.activate(value, options["FusedActivationFunction"]))


def _mean(translation: Translation, operator: TfliteOperator) -> None:
    axes = translation.table(operator.inputs[1])
    if sorted(axes) != [1, 2]:
        raise NotImplementedError(f"mean over axes {axes}")
    value = translation.graph.emit(
        "ReduceMean",
        [translation.read(operator.inputs[0])],
        axes=[2, 3],
        keepdims=int(operator.options["KeepDims"]),
    )
    translation.put(operator.output, value)


def _resize(translation: Translation, operator: TfliteOperator) -> None:
    image = operator.inputs[0]
    height, width = translation.table(operator.inputs[1])
    from_height, from_width = translation.shape(image)[1:3]
    if operator.options["AlignCorners"]:
        corners = "align_corners"
    elif operator.options["HalfPixelCenters"]:
        corners = "half_pixel"
    else:
        corners = "asymmetric"
    scales = translation.graph.floats([1, 1, height / from_height, width / from_width])
    value = translation.graph.emit(
        "Resize",
        [translation.read(image), "", scales],
        mode="linear",
        coordinate_transformation_mode=corners,
    )
    translation.put(operator.output, value)


def _depth_to_space(translation: Translation, operator: TfliteOperator) -> None:
    value = translation.graph.emit(
        "DepthToSpace",
        [translation.read(operator.inputs[0])],
        blocksize=operator.options["BlockSize"],
        mode="DCR",
    )
    translation.put(operator.output, value)


def _reshape(translation: Translation, operator: TfliteOperator) -> None:
    image = operator.inputs[0]
    shape = list(translation.shape(operator.output))
    if translation.shape(image)[0] == shape[0] == 1:
        shape[0] = 0  # ONNX's word for "as it was": the batch
    value = translation.graph.emit("Reshape", [translation.read(image, NHWC), translation.graph.integers(shape)])
    translation.put(operator.output, value, NHWC)


def _concatenation(translation: Translation, operator: TfliteOperator) -> None:
    axes = len(translation.shape(operator.output))
    axis = operator.options["Axis"] % axes
    value = translation.graph.emit(
        "Concat",
        [translation.read(tensor) for tensor in operator.inputs],
        axis=_AXIS_IN_NCHW[axis] if axes == 4 else axis,
    )
    translation.put(operator.output, value)


def _strided_slice(translation: Translation, operator: TfliteOperator) -> None:
    options = operator.options
    if options["EllipsisMask"] or options["NewAxisMask"] or options["ShrinkAxisMask"]:
        raise NotImplementedError("a slice that adds or drops axes")
    image, *tables = operator.inputs
    starts, stops, steps = (translation.table(table) for table in tables)
    axes = range(len(starts))
    # The batch is never cut: the file says 0:1 because it knows batches of one only.
    first = [0 if axis == 0 or options["BeginMask"] >> axis & 1 else starts[axis] for axis in axes]
    last = [_TO_THE_END if axis == 0 or options["EndMask"] >> axis & 1 else stops[axis] for axis in axes]
    graph = translation.graph
    value = graph.emit(
        "Slice",
        [translation.read(image, NHWC), *(graph.integers(row) for row in (first, last, list(axes), steps))],
    )
    translation.put(operator.output, value, NHWC)


TRANSLATORS: dict[str, Translator] = {
    "DEQUANTIZE": _fold,
    "DENSIFY": _fold,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "Convolution2DTransposeBias": _transposed_convolution,
    "ADD": _arithmetic,
    "MUL": _arithmetic,
    "PRELU": _prelu,
    "RELU": _elementwise,
    "HARD_SWISH": _elementwise,
    "LOGISTIC": _elementwise,
    "PAD": _pad,
    "MAX_POOL_2D": _max_pool,
    "MEAN": _mean,
    "RESIZE_BILINEAR": _resize,
    "DEPTH_TO_SPACE": _depth_to_space,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenation,
    "STRIDED_SLICE": _strided_slice,
}
"""How each kind of operator is said in ONNX."""
