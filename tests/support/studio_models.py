"""Stand-ins for studio models: graphs with inputs and outputs like the real files', and answers that can be foreseen.

The real weights are large, and some are not free; nothing here comes from them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_STRIDES = (8, 16, 32)


def write_model(repository: Path, name: str, model: onnx.ModelProto, *, commercial_use: bool) -> Path:
    """A folder of a model repository with this model, and a card that knows its digest."""
    weights = repository / name / "1" / "model.onnx"
    weights.parent.mkdir(parents=True, exist_ok=True)
    content = model.SerializeToString()
    weights.write_bytes(content)
    (repository / name / "model.toml").write_text(
        'profile = "studio"\nsummary = "A stand-in."\n'
        f'[licence]\nname = "For research"\ncommercial_use = {str(commercial_use).lower()}\nnotice = ""\n'
        '[source]\npublisher = "the test"\n'
        f'[[files]]\npath = "1/model.onnx"\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n'
    )
    return weights


def scrfd_like() -> onnx.ModelProto:
    """Names, shapes and layout of det_10g: each cell is a face as sure as it is red and not blue, ten cells wide.

    In (1, 3, H, W) RGB, (x - 127.5) / 128. Out, for strides 8, 16 and 32 with two anchors a cell and no batch: scores
    (n, 1), boxes (n, 4) and keypoints (n, 10) in strides from the cell's corner. Only stride 8, only its first anchor,
    says anything.
    """
    nodes = [
        # Mean colour of each cell, then red minus blue: 1 for pure red, about 0 for grey.
        helper.make_node("Mul", ["weighed", "half"], ["redness"]),
    ]
    nodes.insert(0, helper.make_node("Conv", ["input.1", "red_minus_blue"], ["weighed"], kernel_shape=[1, 1]))
    names: dict[str, list[str]] = {"scores": [], "boxes": [], "keypoints": []}
    tensors = [
        numpy_helper.from_array(np.array([1, 0, -1], np.float32).reshape(1, 3, 1, 1), "red_minus_blue"),
        numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
    ]
    box = np.array([5, 5, 5, 5], np.float32)
    places = np.array([-2.5, -1, 2.5, -1, 0, 1, -2, 3, 2, 3], np.float32)
    outputs = []
    for place, stride in enumerate(_STRIDES):
        score, boxes, keypoints = (str(base + 23 * place) for base in (448, 451, 454))
        first = np.array([1, 0] if stride == 8 else [0, 0], np.float32)
        tensors += [
            numpy_helper.from_array(first.reshape(1, 2), f"anchors{stride}"),
            numpy_helper.from_array(box.reshape(1, 4), f"box{stride}"),
            numpy_helper.from_array(places.reshape(1, 10), f"places{stride}"),
        ]
        nodes += [
            helper.make_node(
                "AveragePool", ["redness"], [f"cells{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
            helper.make_node("Reshape", [f"cells{stride}", "column"], [f"flat{stride}"]),
            helper.make_node("MatMul", [f"flat{stride}", f"anchors{stride}"], [f"pairs{stride}"]),
            helper.make_node("Reshape", [f"pairs{stride}", "column"], [score]),
            helper.make_node("Sub", [score, score], [f"nothing{stride}"]),
            helper.make_node("Add", [f"nothing{stride}", f"box{stride}"], [boxes]),
            helper.make_node("Add", [f"nothing{stride}", f"places{stride}"], [keypoints]),
        ]
        for kind, name, width in (("scores", score, 1), ("boxes", boxes, 4), ("keypoints", keypoints, 10)):
            names[kind].append(name)
            outputs.append((kind, helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])))
    ordered = [value for kind in names for made, value in outputs if made == kind]
    picture = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, None, None])
    return _model(helper.make_graph(nodes, "scrfd_like", [picture], ordered, tensors))


def isnet_like(side: int = 1024) -> onnx.ModelProto:
    """In (1, 3, side, side), x / 255 - 0.5; out (1, 1, side, side): the green channel's share of white."""
    tensors = [
        numpy_helper.from_array(np.array([0, 1, 0], np.float32).reshape(1, 3, 1, 1), "green"),
        numpy_helper.from_array(np.array(0.5, np.float32), "mean"),
    ]
    nodes = [
        helper.make_node("Conv", ["input_image", "green"], ["centred"], kernel_shape=[1, 1]),
        helper.make_node("Add", ["centred", "mean"], ["output_image"]),
    ]
    picture = helper.make_tensor_value_info("input_image", TensorProto.FLOAT, [1, 3, side, side])
    mask = helper.make_tensor_value_info("output_image", TensorProto.FLOAT, [1, 1, side, side])
    return _model(helper.make_graph(nodes, "isnet_like", [picture], [mask], tensors))


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
