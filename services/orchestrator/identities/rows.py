"""Rows of identities, read.

A row is written before its object and outlives it: first without a digest, while portraits are enrolled; then whole;
at last, when the consent was withdrawn, without key and digest, so that the caller still sees what became of it. So no
face lies in the store that no row owns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.common.errors import ConsentRevoked, IdentityNotFound
from services.common.records.database import Records
from services.common.records.tables import consents, identities

ASSET = "asset_"
"""What ids of assets begin with; the rest is the keyed digest of the bytes."""


@dataclass(frozen=True, slots=True)
class PortraitReport:
    """One portrait of an identity, and how good it is."""

    asset: str
    """Id of the asset."""

    name: str
    """As the uploader gave it."""

    face_width_px: float
    yaw_degrees: float
    sharpness: float
    """Variance of the Laplacian of the face at 192 px."""

    warnings: tuple[str, ...] = ()
    """What could be better, for people."""


@dataclass(frozen=True, slots=True)
class EnrolledIdentity:
    """A face that can be put on, as a job's workflow takes it."""

    id: str
    key: str
    """Of the object that Enroll wrote; empty once it was erased."""

    digest: str
    """SHA-256 of that object."""

    is_drawn: bool
    quality: tuple[PortraitReport, ...]
    consent_id: str


async def resolve(records: Records, tenant: str, identity: str) -> EnrolledIdentity:
    """The object behind an id. Whether it may be used is another question: see `consents.check`.

    Raises:
        IdentityNotFound: there is none of this tenant.
        ConsentRevoked: its face was erased.
    """
    row = await records.read(lambda connection: one(connection, tenant, identity))
    if row is None:
        raise IdentityNotFound(identity=identity)
    if not row.key:
        raise ConsentRevoked(identity=identity)
    return EnrolledIdentity(
        id=row.id,
        key=row.key,
        digest=row.object_digest,
        is_drawn=row.is_drawn,
        quality=reports(row.quality),
        consent_id=row.consent,
    )


def one(connection: sa.Connection, tenant: str, identity: str) -> Any | None:
    """The row of an identity that callers see, joined with its consent's; None where there is none.

    Columns of the consent have the names `method`, `statement`, `attested_by`, `scopes`, `portraits`, `expires_ms`,
    `revoked_ms`.
    """
    if "\0" in identity:
        # Nobody's id, and nothing that PostgreSQL takes as text.
        return None
    return connection.execute(visible(tenant).where(identities.c.id == identity)).first()


def visible(tenant: str) -> sa.Select[Any]:
    """Identities of a tenant that callers see: not those whose portraits are still being enrolled."""
    told = ("method", "statement", "attested_by", "scopes", "portraits", "expires_ms", "revoked_ms")
    return (
        sa.select(identities, *(consents.c[name] for name in told))
        .join_from(identities, consents, consents.c.id == identities.c.consent)
        .where(identities.c.tenant == tenant, consents.c.tenant == tenant)
        .where(consents.c.subject == identities.c.id, ~is_pending())
    )


def is_pending() -> sa.ColumnElement[bool]:
    """Portraits are being enrolled, or were when the process died."""
    return sa.and_(identities.c.key != "", identities.c.object_digest == "")


def quality_json(portraits: tuple[PortraitReport, ...], *, landmarks: str = "") -> str:
    """The column `quality`.

    Args:
        portraits: in the order given.
        landmarks: id of the asset with the landmarks of a drawn portrait.
    """
    told = [
        {
            "asset": each.asset,
            "name": each.name,
            "face_width_px": each.face_width_px,
            "yaw_degrees": each.yaw_degrees,
            "sharpness": each.sharpness,
            "warnings": list(each.warnings),
        }
        for each in portraits
    ]
    return json.dumps({"portraits": told, "landmarks": landmarks})


def reports(quality: str) -> tuple[PortraitReport, ...]:
    """The portraits in the column `quality`."""
    return tuple(_report(each) for each in json.loads(quality)["portraits"])


def assets_of(quality: str) -> frozenset[str]:
    """Ids of all assets that an identity was made of."""
    value = json.loads(quality)
    found = {each["asset"] for each in value["portraits"]} | {value["landmarks"]}
    return frozenset(found - {""})


def _report(value: Mapping[str, Any]) -> PortraitReport:
    return PortraitReport(**{**value, "warnings": tuple(value["warnings"])})
