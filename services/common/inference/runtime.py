"""The one door to models. Two runtimes stand behind it; callers do not know which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from services.common.arrays import Tensor
from services.common.inference.models import LicencePolicy

RuntimeKind: TypeAlias = Literal["onnxruntime", "triton"]


class Runtime(Protocol):
    """Where models run."""

    @property
    def name(self) -> str:
        """What runs the models and in which precision: part of keys and reports."""
        ...

    async def infer(self, model: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a model on a batch.

        Args:
            model: name of its folder in the model repository.
            inputs: every input of the contract by name, batched on the first axis. A batch of any length is split
                as the model needs it.

        Returns:
            Every output of the contract by name, in the order of the inputs' first axis.

        Raises:
            UnknownModel, ModelMissing, ModelDigestMismatch, LicenceForbidden: the model cannot be used.
            ModelContractMismatch: the inputs, or the model's own, are not those of the contract.
            Overloaded, RuntimeUnavailable, DeadlineExceeded: the runtime cannot do it now.
        """
        ...

    async def ready(self, models: Iterable[str]) -> None:
        """Return when these models answer; raise as `infer` does if they cannot. Loads and warms them where needed."""
        ...

    def digests(self) -> dict[str, str]:
        """SHA-256 of the weights of each model that can be served, by the model's name."""
        ...

    async def close(self) -> None:
        """Let go of models and connections. Nothing may be running."""
        ...


class RuntimeSettings(Protocol):
    """What a runtime wants to know; `ServiceSettings` has it all."""

    @property
    def model_repository(self) -> Path:
        """Folder with one folder for each model."""
        ...

    @property
    def policy(self) -> LicencePolicy:
        """`commercial` refuses models whose licence forbids commercial use."""
        ...

    @property
    def runtime(self) -> RuntimeKind:
        """Which runtime."""
        ...

    @property
    def triton(self) -> str:
        """host:port of a Triton server's gRPC; needed by the runtime `triton` alone."""
        ...

    @property
    def triton_shared_memory(self) -> bool:
        """Whether pictures are handed to Triton in /dev/shm."""
        ...
