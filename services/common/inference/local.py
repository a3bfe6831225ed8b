"""Models that a library runs by itself, beside the inference door: their weights, checked like everybody's.

Some files have no batch, or outputs that no contract can say; the library that publishes them knows how to ask them.
What is theirs is the asking. Licence, digest and the way to the file stay ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.common.errors import ModelContractMismatch, ModelMissing
from services.common.inference.models import LicencePolicy, check_licence, read_model, read_weights

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RUNTIME = "onnxruntime-cpu-fp32-library"
"""How metrics name where such models run."""


@dataclass(frozen=True, slots=True)
class LocalModels:
    """The model repository as such a library may use it.

    Attributes:
        repository: folder with one folder for each model.
        policy: `commercial` refuses models whose licence forbids that.
    """

    repository: Path
    policy: LicencePolicy

    def session(self, name: str) -> InferenceSession:
        """A session over the very bytes that were hashed: on the CPU, one thread a run. Blocks; call it in the pool.

        Raises:
            UnknownModel, LicenceForbidden: the model may not be used.
            ModelMissing, ModelDigestMismatch: its weights are not there, or are others.
            ModelContractMismatch: the file is no model.
        """
        # Imported where it is used, like the runtimes: an image without such models does not carry it.
        import onnxruntime as ort

        model = read_model(self.repository, name)
        check_licence(model, self.policy)
        try:
            weights = read_weights(self.repository, model)
        except ModelMissing as missing:
            remedy = f"run `masquerade models pull --profile {model.profile}`"
            raise ModelMissing(remedy=remedy, model=name, path=missing.fields.get("path")) from None
        options = ort.SessionOptions()
        # The pool is the only parallelism, as at the inference door.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            return ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except ort.capi.onnxruntime_pybind11_state.InvalidProtobuf as problem:
            raise ModelContractMismatch(model=name, problem="the file cannot be read by ONNX Runtime") from problem

    def digest(self, name: str) -> str:
        """SHA-256 of the weights, as the card states it: part of what was made with them."""
        return read_model(self.repository, name).digest
