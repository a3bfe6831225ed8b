"""What things are called: ids of assets, keys of their objects and of the parts of an upload.

An asset is named by a keyed digest of its bytes: the same bytes have one name within a tenant, and nobody outside can
tell from a name what it names.
"""

from __future__ import annotations

import re
import time
from typing import Final

from services.common.errors import AssetNotFound
from services.common.store.objects import keyed_digest

ASSET: Final = "asset_"
NAME_CHARACTERS: Final = 255
UPLOAD_ID_CHARACTERS: Final = 200

SERVED_STAGES: Final = frozenset({"finalise", "report"})
"""Stages of a job whose objects are given out: artifact, record, report. Whatever holds faces is in none of them."""

_ASSET_ID = re.compile(ASSET + "[a-z2-7]{26}")
_SERVED = re.compile(r"jobs/(?P<job>job_[a-z2-7]{26})/(?P<stage>[a-z]+)/[A-Za-z0-9_][A-Za-z0-9._=-]{0,199}")


def asset_id(tenant: str, digest: str, secret: bytes) -> str:
    """`asset_` and 26 characters, of bytes with this SHA-256."""
    return ASSET + keyed_digest(tenant, digest, secret)


def asset_key(tenant: str, asset: str) -> str:
    """Where the bytes of an asset lie, by its id."""
    return f"{tenant}/assets/{asset.removeprefix(ASSET)}"


def uploads_prefix(tenant: str) -> str:
    """Below it lie the parts of all uploads of a tenant."""
    return f"{tenant}/uploads"


def parts_prefix(tenant: str, upload_id: str, created_ms: int, secret: bytes) -> str:
    """Where the parts of an upload lie. One that was dropped and begun anew has another place: what a late writer of
    the first one still stores is never taken for a part of the second."""
    return f"{uploads_prefix(tenant)}/{keyed_digest(tenant, f'upload {created_ms} {upload_id}', secret)}"


def part_key(prefix: str, offset: int) -> str:
    """Where the part lies that begins at this byte."""
    return f"{prefix}/{offset:020d}"


def is_asset_id(text: str) -> bool:
    """Whether it looks like the id of an asset."""
    return _ASSET_ID.fullmatch(text) is not None


def job_of_key(tenant: str, key: str) -> str:
    """The job to which an artifact, record or report belongs.

    Raises:
        AssetNotFound: the key is none of these, or another tenant's: which of them, nobody is told.
    """
    owner, _, rest = key.partition("/")
    found = _SERVED.fullmatch(rest)
    if owner == tenant and found is not None and found["stage"] in SERVED_STAGES:
        return found["job"]
    raise AssetNotFound(asset=key[:80])


def shown_name(name: str) -> str:
    """A name as it is kept, for people: without what cannot be seen, and not endless. No file is ever called so."""
    return "".join(character for character in name if character.isprintable())[:NAME_CHARACTERS]


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000
