"""What a model is, as its `model.toml` says: files and digests, licence, contract; and the checks against them."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from services.common.errors import (
    LicenceForbidden,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelMissing,
    UnknownModel,
)

LicencePolicy: TypeAlias = Literal["research", "commercial"]
"""What the operator uses the models for. `commercial` refuses models whose licence forbids that."""

CARD = "model.toml"
VERSION = 1
"""The one version that we serve and ask for, by number: `latest` would change under a running job."""

WEIGHTS = f"{VERSION}/model.onnx"
VARIABLE = -1
"""Size of an axis (beside the batch) that differs from call to call."""


@dataclass(frozen=True, slots=True)
class TensorContract:
    """One input or output of a model."""

    name: str
    dtype: str
    """NumPy's name: `uint8`, `float32`."""

    shape: tuple[int, ...]
    """Without the batch; `VARIABLE` where any size goes."""

    def __str__(self) -> str:
        sizes = ", ".join("?" if size == VARIABLE else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} ({sizes})"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file in a model's folder and where it comes from."""

    path: str
    """Below the model's folder."""

    sha256: str | None
    """Of the file as it lies in the folder; None where no publisher states it (such a file is never pulled)."""

    size_bytes: int | None
    member: str | None = None
    """The file inside the source that this one is made from."""

    member_sha256: str | None = None
    converter: str | None = None
    """What makes this file from the member; None: it is taken as it is."""

    url: str | None = None
    """Where the publisher offers the file by itself."""


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A Python wheel that carries the models; it is opened, never installed."""

    package: str
    version: str
    python: str
    platform: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A zip archive at its publisher's address that holds several models."""

    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Licence:
    """What the publisher allows. A fact of the model; what follows from it is the policy's business."""

    name: str
    commercial_use: bool
    notice: str


@dataclass(frozen=True, slots=True)
class Model:
    """A folder of the model repository."""

    name: str
    profile: str
    summary: str
    licence: Licence
    publisher: str
    files: tuple[ModelFile, ...]
    wheel: WheelSource | None
    archive: ArchiveSource | None
    max_batch: int
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    unknown: tuple[str, ...]
    """What is not known for certain yet, each as a sentence; empty for models that are served."""

    @property
    def weights(self) -> ModelFile:
        """The file that a runtime loads."""
        for file in self.files:
            if file.path == WEIGHTS:
                return file
        raise ModelContractMismatch(model=self.name, problem=f"{CARD} names no {WEIGHTS}")

    @property
    def is_served(self) -> bool:
        """Whether enough is known of it to load and to ask it."""
        return bool(self.inputs and self.outputs) and self.weights.sha256 is not None

    @property
    def digest(self) -> str:
        """SHA-256 of the weights: part of keys and reports."""
        if self.weights.sha256 is None:
            raise ModelContractMismatch(model=self.name, problem=f"{CARD} states no sha256 of {WEIGHTS}")
        return self.weights.sha256


def read_models(repository: Path) -> dict[str, Model]:
    """All models of a repository, by the name of their folder, in alphabetical order."""
    return {card.parent.name: _read_card(card) for card in sorted(repository.glob(f"*/{CARD}"))}


def read_model(repository: Path, name: str) -> Model:
    """One model by the name of its folder.

    Raises:
        UnknownModel: there is no such folder, or it holds no card.
    """
    card = repository / name / CARD
    # A name comes from requests: one with a separator would leave the repository.
    if Path(name).name != name or not card.is_file():
        raise UnknownModel(
            model=name, known=", ".join(sorted(path.parent.name for path in repository.glob(f"*/{CARD}")))
        )
    return _read_card(card)


def without_weights(repository: Path, models: Iterable[str]) -> list[str]:
    """Which of these models have no weights in the repository; whether they are the right ones is seen on loading."""
    return [name for name in models if not (repository / name / WEIGHTS).is_file()]


def read_weights(repository: Path, model: Model) -> bytes:
    """A model's weights, checked: the bytes that were hashed are the bytes that are loaded.

    Raises:
        ModelMissing: they were not pulled.
        ModelDigestMismatch: they are not those that the card names.
    """
    return read_file(repository, model, model.weights)


def read_file(repository: Path, model: Model, file: ModelFile) -> bytes:
    """One file of a model, checked against the card; raises as `read_weights` does."""
    path = repository / model.name / file.path
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelMissing(model=model.name, path=path) from None
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ModelDigestMismatch(model=model.name, path=path, found=found, expected=file.sha256 or "unknown")
    return content


def check_licence(model: Model, policy: LicencePolicy) -> None:
    """Refuse a model that the policy forbids.

    Raises:
        LicenceForbidden: the policy is `commercial` and the model's licence is not.
    """
    if policy == "commercial" and not model.licence.commercial_use:
        raise LicenceForbidden(model=model.name, policy=policy, licence=model.licence.name)


def check_contract(model: Model, inputs: Iterable[TensorContract], outputs: Iterable[TensorContract]) -> None:
    """Compare what a file or a server offers with what the card promises; order does not matter.

    Raises:
        ModelContractMismatch: something is absent, superfluous or of another type or shape.
    """
    for side, promised, offered in (("input", model.inputs, inputs), ("output", model.outputs, outputs)):
        there = {tensor.name: tensor for tensor in offered}
        for tensor in promised:
            found = there.pop(tensor.name, None)
            if found != tensor:
                problem = f"{side} {tensor} is promised, {found or 'nothing'} is there"
                raise ModelContractMismatch(model=model.name, problem=problem)
        if there:
            extra = ", ".join(str(tensor) for tensor in there.values())
            raise ModelContractMismatch(model=model.name, problem=f"{side} {extra} is not in the contract")


def _read_card(path: Path) -> Model:
    try:
        return _parsed(path.parent.name, path.read_text())
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as problem:
        raise ModelContractMismatch(model=path.parent.name, problem=f"{CARD} cannot be read: {problem}") from problem


@lru_cache(maxsize=256)
def _parsed(name: str, text: str) -> Model:
    # Each job reads all cards, and they seldom change.
    return _model(name, tomllib.loads(text))


def _model(name: str, card: Mapping[str, Any]) -> Model:
    source = card["source"]
    contract = card.get("contract", {})
    wheel, archive = source.get("wheel"), source.get("archive")
    return Model(
        name=name,
        profile=card["profile"],
        summary=card["summary"],
        licence=Licence(**card["licence"]),
        publisher=source["publisher"],
        files=tuple(_file(file) for file in card.get("files", ())),
        wheel=WheelSource(**wheel) if wheel else None,
        archive=ArchiveSource(**archive) if archive else None,
        max_batch=contract.get("max_batch", 0),
        inputs=tuple(_tensor(tensor) for tensor in contract.get("inputs", ())),
        outputs=tuple(_tensor(tensor) for tensor in contract.get("outputs", ())),
        unknown=tuple(card.get("unknown", ())),
    )


def _file(file: Mapping[str, Any]) -> ModelFile:
    return ModelFile(
        path=file["path"],
        sha256=file.get("sha256"),
        size_bytes=file.get("bytes"),
        member=file.get("member"),
        member_sha256=file.get("member_sha256"),
        converter=file.get("converter"),
        url=file.get("url"),
    )


def _tensor(tensor: Mapping[str, Any]) -> TensorContract:
    return TensorContract(name=tensor["name"], dtype=tensor["dtype"], shape=tuple(tensor["shape"]))
