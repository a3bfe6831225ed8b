"""The state of a translation from TFLite to ONNX: which TFLite tensor is which ONNX value, in which layout.

Activations with four axes are kept NCHW, as ONNX's convolutions want them; they are transposed only where a shape is
taken apart (reshape, slice, the graph's ends).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.standalone.models.graph import OnnxGraph
from services.standalone.models.tflite_reader import TfliteGraph

NCHW = "NCHW"
NHWC = "NHWC"
_TO_NCHW = (0, 3, 1, 2)
_TO_NHWC = (0, 2, 3, 1)
_RELU = 1
_RELU6 = 3


@dataclass(frozen=True, slots=True)
class PlaneTransform:
    """A 4x4 matrix of the file, kept as what it does to x and y."""

    linear: str
    """(batch, 2, 2)."""

    offset: str
    """(batch, 1, 2)."""


@dataclass(slots=True)
class Translation:
    """One model on its way from TFLite to ONNX."""

    source: TfliteGraph
    graph: OnnxGraph = field(default_factory=OnnxGraph)
    transforms: dict[int, PlaneTransform] = field(default_factory=dict)
    """Tensors that hold a matrix of the attention operators."""

    _values: dict[tuple[int, str], str] = field(default_factory=dict)
    _constants: dict[int, NDArray[Any]] = field(default_factory=dict)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape in the TFLite file: NHWC, batch 1."""
        return self.source.tensors[tensor].shape

    def name(self, tensor: int) -> str:
        """Name in the TFLite file."""
        return self.source.tensors[tensor].name

    def constant(self, tensor: int) -> NDArray[Any] | None:
        """Value of a constant or of what was folded into one; None for an activation."""
        if tensor in self._constants:
            return self._constants[tensor]
        return self.source.tensors[tensor].constant

    def weights(self, tensor: int) -> NDArray[np.float32]:
        """A constant that has to be there, as float32."""
        value = self.constant(tensor)
        if value is None:
            raise NotImplementedError(f"tensor {self.name(tensor)} is no constant")
        return value.astype(np.float32)

    def table(self, tensor: int) -> list[Any]:
        """A constant of integers that has to be there (axes, paddings, sizes), as lists."""
        value = self.constant(tensor)
        if value is None:
            raise NotImplementedError(f"tensor {self.name(tensor)} is no constant")
        numbers = value.astype(np.int64).tolist()
        return numbers if isinstance(numbers, list) else [numbers]

    def fold(self, tensor: int, value: NDArray[Any]) -> None:
        """Note that a tensor is known now, not only when the model runs."""
        self._constants[tensor] = value

    def put(self, tensor: int, value: str, layout: str = NCHW) -> None:
        """Note which ONNX value a tensor is; the layout matters for four axes only."""
        self._values[tensor, layout if len(self.shape(tensor)) == 4 else NHWC] = value

    def read(self, tensor: int, layout: str = NCHW) -> str:
        """The ONNX value of an activation in the layout asked for."""
        if len(self.shape(tensor)) != 4:
            return self._values[tensor, NHWC]
        if (tensor, layout) not in self._values:
            other, order = (NHWC, _TO_NCHW) if layout == NCHW else (NCHW, _TO_NHWC)
            self._values[tensor, layout] = self.graph.emit("Transpose", [self._values[tensor, other]], perm=order)
        return self._values[tensor, layout]

    def operand(self, tensor: int) -> str:
        """An operand of an elementwise operator on NCHW activations: a constant's axes follow."""
        if self.constant(tensor) is None:
            return self.read(tensor)
        value = self.weights(tensor)
        if value.ndim == 4:
            value = value.transpose(_TO_NCHW)
        elif value.ndim == 3:
            value = value.transpose(2, 0, 1)
        elif value.ndim == 1 and value.size > 1:
            value = value.reshape(-1, 1, 1)
        return self.graph.floats(value)

    def activate(self, value: str, activation: int) -> str:
        """Add the activation that TFLite has fused into an operator."""
        if activation == 0:
            return value
        if activation == _RELU:
            return self.graph.emit("Relu", [value])
        if activation == _RELU6:
            return self.graph.emit("Clip", [value, self.graph.floats(0), self.graph.floats(6)])
        raise NotImplementedError(f"activation {activation}")
