"""Identities of the contract, made of rows; requests of the contract, made plain."""

from __future__ import annotations

import json
from typing import Any

from masquerade.v1 import detector_pb2, job_pb2
from masquerade.v1 import identity_pb2 as pb
from services.common.errors import InvalidSpec, Violation
from services.orchestrator.consents import FACE_SWAP, Attestation
from services.orchestrator.identities.asking import IdentityRequest
from services.orchestrator.identities.people import Page
from services.orchestrator.identities.rows import reports
from services.orchestrator.spec import CONSENT_METHODS


def identity_request(request: pb.CreateIdentityRequest) -> IdentityRequest:
    """What is asked for."""
    return IdentityRequest(
        name=request.name,
        asset_ids=tuple(request.asset_ids),
        consent=attestation(request.consent, path="consent"),
        request_id=request.request_id,
        landmarks_asset_id=request.landmarks_asset_id,
    )


def attestation(consent: job_pb2.Consent, *, path: str) -> Attestation:
    """What is said about a consent; who said it stays empty where the caller did.

    Raises:
        InvalidSpec: an end that is no time.
    """
    expires_ms = None
    if consent.HasField("expire_time"):
        try:
            expires_ms = consent.expire_time.ToMilliseconds()
        except ValueError:
            raise InvalidSpec(violations=[Violation(f"{path}.expire_time", "is no time")]) from None
    return Attestation(
        method=CONSENT_METHODS.get(consent.method, ""),
        attested_by=consent.attested_by,
        statement=consent.statement,
        scopes=tuple(consent.scopes) or (FACE_SWAP,),
        expires_ms=expires_ms,
    )


def identity(row: Any) -> pb.Identity:
    """An identity as its owner sees it."""
    consent = job_pb2.Consent(
        method=f"CONSENT_METHOD_{row.method.upper()}",
        statement=row.statement,
        attested_by=row.attested_by,
        scopes=json.loads(row.scopes),
    )
    if row.expires_ms is not None:
        consent.expire_time.FromMilliseconds(row.expires_ms)
    message = pb.Identity(id=row.id, name=row.name, consent=consent, consent_id=row.consent, drawn=row.is_drawn)
    message.create_time.FromMilliseconds(row.created_ms)
    if row.revoked_ms is not None:
        message.revoke_time.FromMilliseconds(row.revoked_ms)
    for report in reports(row.quality):
        message.quality.append(
            detector_pb2.PortraitQuality(
                name=report.name,
                face_width_px=report.face_width_px,
                yaw_degrees=report.yaw_degrees,
                sharpness=report.sharpness,
                warnings=report.warnings,
            )
        )
    return message


def page(found: Page) -> pb.ListIdentitiesResponse:
    """Some identities."""
    return pb.ListIdentitiesResponse(identities=map(identity, found.rows), next_page_token=found.next_token)
