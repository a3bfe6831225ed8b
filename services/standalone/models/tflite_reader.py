"""A TFLite file as plain dataclasses: the only module that knows the flatbuffer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
from flatbuffers import flexbuffers
from numpy.typing import NDArray

from services.standalone.models.sparse import SparseLayout, SparseLevel, densify

_DTYPES: dict[int, type[np.generic]] = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
    tflite.TensorType.INT64: np.int64,
}
_BUILTINS = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
_OPTIONS: dict[str, tuple[type, tuple[str, ...]]] = {
    "CONV_2D": (
        tflite.Conv2DOptions,
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "DEPTHWISE_CONV_2D": (
        tflite.DepthwiseConv2DOptions,
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "ADD": (tflite.AddOptions, ("FusedActivationFunction",)),
    "MUL": (tflite.MulOptions, ("FusedActivationFunction",)),
    "MAX_POOL_2D": (
        tflite.Pool2DOptions,
        ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    ),
    "MEAN": (tflite.ReducerOptions, ("KeepDims",)),
    "RESIZE_BILINEAR": (tflite.ResizeBilinearOptions, ("AlignCorners", "HalfPixelCenters")),
    "DEPTH_TO_SPACE": (tflite.DepthToSpaceOptions, ("BlockSize",)),
    "CONCATENATION": (tflite.ConcatenationOptions, ("Axis",)),
    "STRIDED_SLICE": (
        tflite.StridedSliceOptions,
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class TfliteTensor:
    """A tensor of the graph: an activation, or a constant with its value."""

    name: str
    shape: tuple[int, ...]
    """As in the file: NHWC, batch 1."""

    constant: NDArray[Any] | None
    """The value, sparse ones laid out in full; None for an activation."""


@dataclass(frozen=True, slots=True)
class TfliteOperator:
    """One step of the graph."""

    kind: str
    """`CONV_2D` and so on; a custom operator's own name."""

    inputs: tuple[int, ...]
    """Tensor numbers; -1 where an optional input is absent."""

    output: int
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TfliteGraph:
    """The whole model, operators in an order in which they can run."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(content: bytes) -> TfliteGraph:
    """Read the first subgraph of a TFLite file.

    Raises:
        NotImplementedError: the file holds a kind of tensor that none of our models has.
    """
    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    return TfliteGraph(
        tensors=tuple(_tensor(model, graph.Tensors(number)) for number in range(graph.TensorsLength())),
        operators=tuple(_operator(model, graph.Operators(number)) for number in range(graph.OperatorsLength())),
        inputs=_numbers(graph.InputsAsNumpy()),
        outputs=_numbers(graph.OutputsAsNumpy()),
    )


def _numbers(vector: Any) -> tuple[int, ...]:
    # The bindings answer the number 0 for a vector that is absent.
    return () if isinstance(vector, int) else tuple(int(number) for number in vector)


def _tensor(model: Any, tensor: Any) -> TfliteTensor:
    shape = _numbers(tensor.ShapeAsNumpy())
    buffer = model.Buffers(tensor.Buffer()).DataAsNumpy()
    constant = None
    if not isinstance(buffer, int):
        if tensor.Type() not in _DTYPES:
            raise NotImplementedError(f"tensor type {tensor.Type()}")
        stored = buffer.view(_DTYPES[tensor.Type()])
        sparsity = tensor.Sparsity()
        constant = stored.reshape(shape) if sparsity is None else densify(stored, _layout(shape, sparsity))
    return TfliteTensor(name=tensor.Name().decode(), shape=shape, constant=constant)


def _layout(shape: tuple[int, ...], sparsity: Any) -> SparseLayout:
    levels = []
    for number in range(sparsity.DimMetadataLength()):
        level = sparsity.DimMetadata(number)
        levels.append(
            SparseLevel(
                size=level.DenseSize(),
                segments=_indices(level.ArraySegmentsType(), level.ArraySegments()),
                indices=_indices(level.ArrayIndicesType(), level.ArrayIndices()),
            )
        )
    return SparseLayout(
        shape=shape,
        order=_numbers(sparsity.TraversalOrderAsNumpy()),
        block_axes=_numbers(sparsity.BlockMapAsNumpy()),
        levels=tuple(levels),
    )


def _indices(kind: int, table: Any) -> NDArray[np.int64] | None:
    if kind == tflite.SparseIndexVector.NONE or table is None:
        return None
    vectors = {
        tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
        tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
        tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
    }
    vector = vectors[kind]()
    vector.Init(table.Bytes, table.Pos)
    return np.array(_numbers(vector.ValuesAsNumpy()), np.int64)


def _operator(model: Any, operator: Any) -> TfliteOperator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Files written before 2020 carry the kind in the deprecated field alone.
    kind = _BUILTINS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    if kind == "CUSTOM":
        kind = code.CustomCode().decode()
        options = _custom_options(kind, operator.CustomOptionsAsNumpy())
    else:
        options = _builtin_options(kind, operator.BuiltinOptions())
    return TfliteOperator(
        kind=kind,
        inputs=_numbers(operator.InputsAsNumpy()),
        output=_numbers(operator.OutputsAsNumpy())[0],
        options=options,
    )


def _builtin_options(kind: str, table: Any) -> dict[str, Any]:
    if kind not in _OPTIONS or table is None:
        return {}
    options_type, names = _OPTIONS[kind]
    options: Any = options_type()
    options.Init(table.Bytes, table.Pos)
    return {name: getattr(options, name)() for name in names}


def _custom_options(kind: str, stored: Any) -> dict[str, Any]:
    content = b"" if isinstance(stored, int) else stored.tobytes()
    if kind == "Convolution2DTransposeBias":
        # TfLiteTransposeConvParams: a plain struct, not a flexbuffer.
        padding, stride_w, stride_h = (int(value) for value in np.frombuffer(content[:12], np.int32))
        return {"Padding": padding, "StrideW": stride_w, "StrideH": stride_h}
    return dict(flexbuffers.Loads(content)) if content else {}
