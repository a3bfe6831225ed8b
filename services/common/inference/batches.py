"""Batches on their way to a model: checked against the contract, split, put together again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from services.common.arrays import Tensor
from services.common.errors import ModelContractMismatch
from services.common.inference.models import VARIABLE, Model, TensorContract


def batch_length(model: Model, inputs: Mapping[str, Tensor]) -> int:
    """How many items the inputs hold.

    Raises:
        ModelContractMismatch: an input is absent, unknown, of another type or shape, or of another length.
    """
    promised = {tensor.name: tensor for tensor in model.inputs}
    if set(inputs) != set(promised):
        problem = f"inputs {', '.join(sorted(promised))} are asked for, {', '.join(sorted(inputs)) or 'none'} given"
        raise ModelContractMismatch(model=model.name, problem=problem)
    for name, tensor in promised.items():
        array = inputs[name]
        if array.ndim == 0 or array.dtype != tensor.dtype or not _fits(tensor.shape, array.shape[1:]):
            problem = f"input {tensor} is asked for, {array.dtype} {array.shape} given (first axis: the batch)"
            raise ModelContractMismatch(model=model.name, problem=problem)
    lengths = {len(array) for array in inputs.values()}
    if len(lengths) != 1:
        raise ModelContractMismatch(model=model.name, problem=f"inputs of {sorted(lengths)} items")
    return lengths.pop()


def split(inputs: Mapping[str, Tensor], length: int, most: int) -> Iterator[dict[str, Tensor]]:
    """Views of the inputs, `most` items each and the rest in the last."""
    for first in range(0, length, most):
        yield {name: array[first : first + most] for name, array in inputs.items()}


def join(model: Model, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The parts' outputs behind one another; without a part, outputs of no item."""
    if not parts:
        return {tensor.name: _nothing(tensor) for tensor in model.outputs}
    if len(parts) == 1:
        return dict(parts[0])
    return {tensor.name: np.concatenate([part[tensor.name] for part in parts]) for tensor in model.outputs}


def blank_inputs(model: Model) -> dict[str, Tensor]:
    """One item of zeros for each input; variable axes get one entry."""
    return {
        tensor.name: np.zeros((1, *(max(size, 1) for size in tensor.shape)), tensor.dtype) for tensor in model.inputs
    }


def _fits(promised: tuple[int, ...], given: tuple[int, ...]) -> bool:
    return len(promised) == len(given) and all(
        want in (size, VARIABLE) for want, size in zip(promised, given, strict=True)
    )


def _nothing(tensor: TensorContract) -> Tensor:
    return np.zeros((0, *(max(size, 0) for size in tensor.shape)), tensor.dtype)
