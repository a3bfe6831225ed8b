"""Consent records: who agreed to which use of which portraits, until when; written once, withdrawn at any time.

A face is used where a record allows it, and nowhere else: `check` is asked when a job is created and once more before
its result appears.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from services.common.audit.chain import Entry
from services.common.audit.log import append
from services.common.errors import (
    ConsentExpired,
    ConsentNotCovering,
    ConsentRequired,
    ConsentRevoked,
    IdentityNotFound,
    MasqueradeError,
)
from services.common.records.tables import consents, identities
from services.orchestrator.identities.rows import ASSET, is_pending, reports
from services.orchestrator.identities.rows import EnrolledIdentity as EnrolledIdentity
from services.orchestrator.identities.rows import resolve as resolve

FACE_SWAP: Final = "face_swap"
"""The use that this software makes of a face; what a consent covers that names none."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """What somebody says about a consent."""

    method: str
    """self, attested or synthetic."""

    attested_by: str
    """Who says so: in the tenant's words, or else the caller."""

    statement: str = ""
    scopes: tuple[str, ...] = (FACE_SWAP,)
    expires_ms: int | None = None


def check(
    connection: sa.Connection,
    tenant: str,
    identity_ids: Collection[str],
    *,
    now_ms: int,
    scope: str = FACE_SWAP,
    is_running: bool = False,
) -> None:
    """Refuse a use of faces that nobody agreed to.

    Within a transaction that makes a job, the answer holds until the job is there: who withdraws waits for it, and
    finds the job.

    Args:
        connection: of a transaction on the records.
        tenant: whose job it is.
        identity_ids: of the faces that it uses.
        now_ms: Unix time.
        scope: what for.
        is_running: the job was allowed before: an identity that is gone was withdrawn since.

    Raises:
        IdentityNotFound: no such identity of this tenant.
        ConsentRequired: it has no consent record.
        ConsentRevoked, ConsentExpired: it had one.
        ConsentNotCovering: the record is about another use or other portraits.
    """
    for identity in sorted(set(identity_ids)):
        # An id with a NUL is nobody's, and nothing that PostgreSQL takes as text.
        row = (
            "\0" not in identity
            and connection.execute(
                sa.select(identities).where(identities.c.tenant == tenant, identities.c.id == identity, ~is_pending())
            ).first()
        )
        if not row:
            missing: type[MasqueradeError] = ConsentRevoked if is_running else IdentityNotFound
            raise missing(identity=identity)
        used = {report.asset.removeprefix(ASSET) for report in reports(row.quality)}
        _check_record(
            _record(connection, tenant, consents.c.id == row.consent, subject=identity),
            identity=identity,
            portraits=used,
            scope=scope,
            now_ms=now_ms,
        )
        if not row.key:
            raise ConsentRevoked(identity=identity)


def check_inline(
    connection: sa.Connection,
    tenant: str,
    job: str,
    portraits: Collection[str],
    *,
    now_ms: int,
    scope: str = FACE_SWAP,
) -> None:
    """The same for portraits that were given with a job, and whose consent was recorded under the job's id.

    Args:
        connection: of a transaction on the records.
        tenant: whose job it is.
        job: its id.
        portraits: keyed digests of the portraits of all its inline faces.
        now_ms: Unix time.
        scope: what for.

    Raises:
        ConsentRequired, ConsentRevoked, ConsentExpired, ConsentNotCovering: as `check`.
    """
    rows = connection.execute(_records(tenant, subject=job).with_for_update(read=True)).all()
    for portrait in sorted(set(portraits)):
        covering = [row for row in rows if portrait in json.loads(row.portraits)]
        found = covering or rows
        _check_record(found[-1] if found else None, identity=job, portraits={portrait}, scope=scope, now_ms=now_ms)


def write(
    connection: sa.Connection,
    *,
    tenant: str,
    actor: str,
    subject: str,
    attestation: Attestation,
    portraits: Sequence[str],
    now_ms: int,
) -> str:
    """Record a consent, and the line of the audit log that says so: towards the end of the caller's transaction.

    Args:
        connection: of a writing transaction on the records.
        tenant: whose it is.
        actor: who made the call.
        subject: id of the identity, or of the job for which portraits were given directly.
        attestation: what is said.
        portraits: keyed digests of the pictures (the names of their assets).
        now_ms: Unix time.

    Returns:
        Id of the record, `cns_` and 26 characters.
    """
    consent = "cns_" + base64.b32encode(secrets.token_bytes(20)).decode().lower()[:26]
    scopes = list(attestation.scopes or (FACE_SWAP,))
    connection.execute(
        consents.insert().values(
            id=consent,
            tenant=tenant,
            subject=subject,
            method=attestation.method,
            statement=attestation.statement,
            attested_by=attestation.attested_by or actor,
            scopes=json.dumps(scopes),
            portraits=json.dumps(list(portraits)),
            created_ms=now_ms,
            expires_ms=attestation.expires_ms,
        )
    )
    details = {
        "subject": subject,
        "method": attestation.method,
        "scopes": scopes,
        "portraits": list(portraits),
        "expires_ms": attestation.expires_ms,
    }
    append(connection, Entry(tenant, actor, "consent.created", consent, details=details))
    return consent


def revoke(
    connection: sa.Connection, *, tenant: str, actor: str, consent: str, subject: str, now_ms: int, why: str
) -> bool:
    """Mark a record as withdrawn, and say so in the audit log; False if it was before.

    Args:
        connection: of a writing transaction on the records.
        tenant: whose it is.
        actor: who made the call.
        consent: id of the record.
        subject: id of the identity or job that it is about.
        now_ms: Unix time.
        why: `withdrawn` or `deleted`.
    """
    changed = connection.execute(
        sa.update(consents)
        .where(consents.c.tenant == tenant, consents.c.id == consent, consents.c.revoked_ms.is_(None))
        .values(revoked_ms=now_ms)
    ).rowcount
    if changed:
        append(connection, Entry(tenant, actor, "consent.revoked", consent, details={"subject": subject, "why": why}))
    return bool(changed)


def _record(connection: sa.Connection, tenant: str, condition: sa.ColumnElement[bool], *, subject: str) -> Any | None:
    return connection.execute(_records(tenant, subject=subject).where(condition).with_for_update(read=True)).first()


def _records(tenant: str, *, subject: str) -> sa.Select[Any]:
    chosen = sa.select(consents).where(consents.c.tenant == tenant, consents.c.subject == subject)
    return chosen.order_by(consents.c.created_ms, consents.c.id)


def _check_record(row: Any | None, *, identity: str, portraits: Collection[str], scope: str, now_ms: int) -> None:
    if row is None:
        raise ConsentRequired(identity=identity)
    if row.revoked_ms is not None:
        raise ConsentRevoked(identity=identity)
    if row.expires_ms is not None and row.expires_ms <= now_ms:
        expired = datetime.fromtimestamp(row.expires_ms / 1000, UTC)
        raise ConsentExpired(identity=identity, expired=expired.isoformat(timespec="seconds"))
    if not set(portraits) <= set(json.loads(row.portraits)):
        raise ConsentNotCovering(what="other portraits than these", identity=identity)
    if scope not in json.loads(row.scopes):
        raise ConsentNotCovering(what=scope, identity=identity)
