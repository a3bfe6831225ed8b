"""The last step: the record beside the file, the signature once something signs, and both put where they are found.

The record is written before the file: a file that can be seen has a record, whatever is killed in between.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import masquerade
from services.common.errors import InvalidSpec
from services.common.store.objects import digest_of_file

if TYPE_CHECKING:
    from services.common.store.objects import ObjectInfo, ObjectStore

RECORD_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed file and what the record says of its signature."""

    path: Path
    signature: dict[str, Any] | None


class Signer(Protocol):
    """Signs a finished file, as the last step that touches its bytes."""

    name: str
    """Who signs, for the record; empty if nobody does."""

    async def sign(self, file: Path, record: bytes, scratch: Path) -> Signed:
        """The signed file: `file` itself or one under `scratch`."""


class NoSigner:
    """Leaves the file as it is; the record says that nobody signed."""

    name = ""

    async def sign(self, file: Path, record: bytes, scratch: Path) -> Signed:
        """Nothing is signed."""
        return Signed(file, None)


@dataclass(frozen=True, slots=True)
class Finalised:
    """What was published."""

    artifact: ObjectInfo
    record: ObjectInfo
    signer: str


async def finalise(
    store: ObjectStore, signer: Signer, *, file_key: str, output_key: str, record_json: str, scratch: Path
) -> Finalised:
    """Write record and artifact.

    Args:
        store: where both lie.
        signer: who signs.
        file_key: the verified file.
        output_key: the artifact's key; the record gets the same and `.json`.
        record_json: what was done, as an object: source digest, models, settings, consent.
        scratch: a folder of this call, for a signed copy.
    """
    said = _object(record_json)
    async with store.local_path(file_key) as file:
        signed = await signer.sign(file, record_bytes(said, None, None), scratch)
        described = {
            "sha256": await asyncio.to_thread(digest_of_file, signed.path),
            "size_bytes": signed.path.stat().st_size,
        }
        record = record_bytes(said, described, signed.signature)
        record_info = await store.put_bytes(output_key + RECORD_SUFFIX, record)
        artifact = await store.put_file(output_key, signed.path)
    return Finalised(artifact, record_info, signer.name)


def _object(record_json: str) -> dict[str, Any]:
    try:
        said = json.loads(record_json or "{}")
    except ValueError as error:
        raise InvalidSpec(field="record_json", problem=str(error)) from error
    if not isinstance(said, dict):
        raise InvalidSpec(field="record_json", problem="not an object")
    return said


def record_bytes(said: dict[str, Any], file: dict[str, Any] | None, signature: dict[str, Any] | None) -> bytes:
    """The record as a file: equal records are equal bytes."""
    whole = dict(said)
    whole.setdefault("software", {"name": "masquerade", "version": masquerade.__version__})
    if file is not None:
        whole["file"] = file
        whole["signature"] = signature
    return (json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
