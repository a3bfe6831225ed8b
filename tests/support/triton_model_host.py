"""Serves <version>/model.onnx through Triton's Python backend, as the backend `onnxruntime` would.

A copy of this file lies as `model.py` beside the weights and runs in the server's own environment (NumPy 1). Nothing
here is imported by the tests.
"""

from __future__ import annotations

import json
import time

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton

KINDS = {"float": "FP32", "float16": "FP16", "double": "FP64"}
"""Where ONNX Runtime and Triton call a type differently; the others differ in case only."""

STATES = ort.capi.onnxruntime_pybind11_state
RUN_FAILURES = (ValueError, RuntimeError, STATES.Fail, STATES.InvalidArgument, STATES.RuntimeException)
"""What a request's contents can make a run raise; anything else is a fault of this file."""


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args):
        """Load the weights; refuse an environment that would answer garbage, and a config that the file contradicts."""
        refuse_wrong_numpy()
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 1))
        options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 1))
        self.delay_s = float(parameters.get("test_delay_ms", 0)) / 1e3
        self.is_batched = config["max_batch_size"] > 0
        weights = __file__.removesuffix("py") + "onnx"
        self.session = ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        compare("input", config["input"], self.session.get_inputs(), self.is_batched)
        compare("output", config["output"], self.session.get_outputs(), self.is_batched)
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests):
        """Answer the requests that the server has put together; those of equal shape run as one batch."""
        time.sleep(self.delay_s)
        responses = [None] * len(requests)
        groups = {}
        for place, request in enumerate(requests):
            if request.is_cancelled():
                responses[place] = refusal("cancelled", triton.TritonError.CANCELLED)
                continue
            arrays = [triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs]
            key = tuple(array.shape[1:] for array in arrays) if self.is_batched else place
            groups.setdefault(key, []).append((place, arrays))
        for group in groups.values():
            for place, outcome in self.answer(group):
                responses[place] = outcome
        return responses

    def answer(self, group):
        """Pairs of place and response; when a batch fails its requests run alone, so that only the guilty one fails."""
        try:
            answers = self.run([arrays for _, arrays in group])
        except RUN_FAILURES as problem:
            if len(group) > 1:
                return [pair for member in group for pair in self.answer([member])]
            return [(group[0][0], refusal(str(problem), triton.TritonError.INVALID_ARG))]
        return [
            (place, triton.InferenceResponse([triton.Tensor(*pair) for pair in zip(self.outputs, answer, strict=True)]))
            for (place, _), answer in zip(group, answers, strict=True)
        ]

    def run(self, batches):
        """One run of the session for several requests; the outputs of each."""
        feed = {
            name: np.concatenate(parts) for name, parts in zip(self.inputs, zip(*batches, strict=True), strict=True)
        }
        outputs = self.session.run(self.outputs, feed)
        if not self.is_batched:
            return [outputs]
        ends = np.cumsum([arrays[0].shape[0] for arrays in batches])[:-1]
        return list(zip(*(np.split(output, ends) for output in outputs), strict=True))


def refuse_wrong_numpy():
    """With NumPy 2 this stub reads other numbers than were sent and answers OK with no bytes: ask it once."""
    probe = triton.Tensor("probe", np.arange(4, dtype=np.float32)).to_dlpack()
    if triton.Tensor.from_dlpack("again", probe).as_numpy().tolist() != [0, 1, 2, 3]:
        raise RuntimeError(f"numpy {np.__version__} at {np.__file__} does not work with this Triton stub")


def compare(side, promised, offered, is_batched):
    """Refuse a config whose types or sizes are not those of the file, as the real backend does."""
    there = {tensor.name: tensor for tensor in offered}
    if set(there) != {tensor["name"] for tensor in promised}:
        raise ValueError(f"{side}s: config {[tensor['name'] for tensor in promised]}, file {sorted(there)}")
    for tensor in promised:
        real = there[tensor["name"]]
        kind = real.type.removeprefix("tensor(").removesuffix(")")
        kind = "TYPE_" + KINDS.get(kind, kind.upper())
        sizes = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
        shape = [-1] * is_batched + [int(size) for size in sizes]
        free = [-1 if isinstance(size, str) else size for size in real.shape]
        fits = len(shape) == len(free) and all(size in (-1, want) for size, want in zip(free, shape, strict=True))
        if kind != tensor["data_type"] or not fits:
            raise ValueError(f"{side} {tensor['name']}: config {tensor['data_type']} {shape}, file {kind} {real.shape}")


def refusal(text, code):
    """An error as one request's response."""
    return triton.InferenceResponse(error=triton.TritonError(text, code))
