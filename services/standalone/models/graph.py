"""An ONNX graph while it grows: nodes, constants and names that come out the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
BATCH = "batch"
"""Name of the symbolic first axis of all inputs and outputs."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output as it is declared: its first axis is the batch and not in `shape`."""

    name: str
    kind: int
    """A number of `TensorProto.DataType`."""

    shape: tuple[int, ...]


class OnnxGraph:
    """Collects nodes in the order in which they run.

    Names are a word and a running number: the same calls give the same bytes.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._count = 0

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output; answer the output's name."""
        output = self._fresh(kind.lower())
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def rename(self, value: str, name: str) -> None:
        """Give a value the name under which the graph answers it."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant; answer its name."""
        name = self._fresh("constant")
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def floats(self, value: Any) -> str:
        """Add a float32 constant."""
        return self.constant(np.asarray(value, np.float32))

    def integers(self, value: Any) -> str:
        """Add an int64 constant, as axes, shapes and indices are."""
        return self.constant(np.asarray(value, np.int64))

    def slice(self, value: str, start: int, stop: int, *, axis: int) -> str:
        """Cut `start` to `stop` out of one axis."""
        return self.emit("Slice", [value, self.integers([start]), self.integers([stop]), self.integers([axis])])

    def finish(self, name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> onnx.ModelProto:
        """Close the graph: constants that nobody reads are dropped, the rest is checked by ONNX itself."""
        read = {value for node in self._nodes for value in node.input}
        graph = helper.make_graph(
            self._nodes,
            name,
            [_declared(spec) for spec in inputs],
            [_declared(spec) for spec in outputs],
            [tensor for constant, tensor in self._constants.items() if constant in read],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="masquerade",
            producer_version="1",
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _fresh(self, word: str) -> str:
        self._count += 1
        return f"{word}_{self._count}"


def _declared(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, spec.kind, [BATCH, *spec.shape])


FLOAT = int(TensorProto.FLOAT)
UINT8 = int(TensorProto.UINT8)
