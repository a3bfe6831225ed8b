"""A job as it is asked for, made ready for the book: ids become keys, and everything that is wrong is said at once."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from services.common.access.callers import LOCAL, Caller
from services.common.errors import AssetNotFound, IdentityNotFound, InvalidSpec, Violation
from services.common.records.database import Records
from services.common.records.tables import assets
from services.orchestrator.book.creating import InlineConsent, NewJob
from services.orchestrator.book.rows import JobRow
from services.orchestrator.consents import Attestation
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.identities import rows as identities
from services.orchestrator.spec import JobIdentity, JobSpec, read_spec, survey

MOST_REQUEST_ID_CHARACTERS: Final = 200
_ASSET = "asset_"
_NEEDS_ASSET = (2, 3)
"""Kinds of background that are made of a file."""


def inner(asked: JsonObject, *, tenant: str, request_id: str) -> NewJob:
    """A job from the inner door, which speaks in keys and brings its portraits with it.

    Raises:
        InvalidSpec: with one violation for each field that is wrong.
        UnknownProfile: the profile is not ours.
    """
    spec = read_spec(asked)
    keys = [spec.asset_key, spec.background.asset_key or ""]
    keys += [identity.landmarks_key or "" for identity in spec.identities]
    inline = [_inline_consent(identity) for identity in spec.identities if identity.portrait_keys]
    portraits = [portrait for each in inline for portrait in each.portraits]
    prefix = f"{tenant}/assets/"
    return _new_job(
        spec,
        Caller(tenant, LOCAL.actor),
        request_id=request_id,
        asked=asked,
        resolved=asked,
        uses=[key.removeprefix(prefix) for key in keys if key.startswith(prefix)] + portraits,
        inline=inline,
    )


def _inline_consent(identity: JobIdentity) -> InlineConsent:
    consent = identity.consent
    return InlineConsent(
        Attestation(consent.method, consent.attested_by, consent.statement, consent.scopes, consent.expires_ms),
        tuple(key.rpartition("/")[2] for key in identity.portrait_keys),
    )


async def public(
    records: Records, asked: JsonObject, *, caller: Caller, request_id: str, source: JobRow | None = None
) -> tuple[NewJob, JobSpec]:
    """A job from the public door, which speaks in ids.

    Args:
        records: rows of assets and identities.
        asked: JSON form of the spec in the caller's words.
        caller: who asks.
        request_id: the caller's id for the request.
        source: the job whose Timeline is used, if it is to be rendered again.

    Returns:
        The job, and its spec as the engine takes it.

    Raises:
        InvalidSpec: with one violation for each field of the wrong form.
        AssetNotFound, IdentityNotFound: the tenant has none of this id.
    """
    wanted = copy.deepcopy(asked)
    if source is not None:
        wanted["asset_id"] = wanted.get("asset_id") or _video_of(source)
    _check_shape(wanted, request_id, source)
    resolved = await records.read(lambda connection: _resolved(connection, caller.tenant, wanted, source))
    # Its form was looked at, and names of profiles are for `checks`, with all other names.
    spec, _ = survey(resolved)
    job = _new_job(
        spec,
        caller,
        request_id=request_id,
        asked=asked,
        resolved=resolved,
        uses=[asset.removeprefix(_ASSET) for asset in _asset_ids(wanted)],
        rerender_of="" if source is None else source.id,
        is_metered=True,
    )
    return job, spec


async def rough(records: Records, asked: JsonObject, *, caller: Caller, source: JobRow | None = None) -> JobSpec:
    """A job whose form is wrong, as far as it can be read: what else is wrong is said with it."""
    wanted: dict[str, Any] = copy.deepcopy(asked)
    if source is not None:
        wanted["asset_id"] = wanted.get("asset_id") or _video_of(source)
        wanted["rerender"] = {"of": source.id, "result": {}}
    background = _mapping(wanted.get("background"))
    keys = await records.read(lambda connection: _keys(connection, caller.tenant, _asset_ids(wanted)))
    wanted["asset_key"] = keys.get(wanted.get("asset_id"), "")
    if background:
        wanted["background"] = {**background, "asset_key": keys.get(background.get("asset_id"))}
    return survey(wanted)[0]


def _new_job(
    spec: JobSpec,
    caller: Caller,
    *,
    request_id: str,
    asked: JsonObject,
    resolved: JsonObject,
    uses: Collection[str],
    inline: Collection[InlineConsent] = (),
    rerender_of: str = "",
    is_metered: bool = False,
) -> NewJob:
    return NewJob(
        tenant=caller.tenant,
        actor=caller.actor,
        request_id=request_id,
        asked=asked,
        spec=resolved,
        labels=spec.labels,
        priority=spec.priority,
        rerender_of=rerender_of,
        assets=[_ASSET + name for name in sorted({each for each in uses if each and "/" not in each})],
        identities=[identity.identity_id for identity in spec.identities if identity.identity_id],
        inline=list(inline),
        is_metered=is_metered,
        places=[(each.place, each.name) for each in spec.publish],
    )


def _check_shape(wanted: JsonObject, request_id: str, source: JobRow | None) -> None:
    """Everything that can be seen without looking anything up.

    Raises:
        InvalidSpec: all of it.
    """
    found: list[Violation] = []

    def unless(is_right: object, field: str, problem: str) -> None:
        if not is_right:
            found.append(Violation(field, problem))

    unless(request_id, "request_id", "is missing")
    unless(len(request_id) <= MOST_REQUEST_ID_CHARACTERS, "request_id", f"at most {MOST_REQUEST_ID_CHARACTERS} letters")
    unless(not wanted.get("asset_key"), "spec.asset_key", "is for those inside: use asset_id")
    unless(wanted.get("asset_id"), "spec.asset_id", "is missing")
    if source is not None:
        is_same = wanted.get("asset_id") == _video_of(source)
        unless(is_same, "spec.asset_id", "is another video than the one whose Timeline is used")
    background = _mapping(wanted.get("background"))
    unless(not background.get("asset_key"), "spec.background.asset_key", "is for those inside: use asset_id")
    is_file = background.get("kind") in _NEEDS_ASSET
    unless(background.get("asset_id") or not is_file, "spec.background.asset_id", "is missing")
    unless(is_file or not background.get("asset_id"), "spec.background.asset_id", "this background takes no file")
    for number, identity in enumerate(_identities(wanted)):
        path = f"spec.identities[{number}]"
        unless(identity.get("identity_id"), f"{path}.identity_id", "is missing")
        for inside in ("portrait_keys", "landmarks_key"):
            unless(not identity.get(inside), f"{path}.{inside}", "is for those inside: enrol the face first")
    found += [each for each in _well_formed(wanted) if each.field not in {violation.field for violation in found}]
    if found:
        raise InvalidSpec(violations=found)


def _well_formed(wanted: JsonObject) -> list[Violation]:
    """What `read_spec` finds, where every id has been looked up."""
    shaped = copy.deepcopy(wanted)
    shaped["asset_key"] = "an asset"
    background = shaped.get("background")
    if isinstance(background, dict) and background.get("kind") in _NEEDS_ASSET:
        background["asset_key"] = "an asset"
    for identity in _identities(shaped):
        identity.update(identity_id="an identity", portrait_keys=[], landmarks_key=None)
    return survey(shaped)[1]


def _resolved(connection: sa.Connection, tenant: str, wanted: JsonObject, source: JobRow | None) -> JsonObject:
    """The spec as the engine takes it."""
    spec: dict[str, Any] = copy.deepcopy(wanted)
    known = _keys(connection, tenant, _asset_ids(wanted))
    for asset in _asset_ids(wanted):
        if asset not in known:
            raise AssetNotFound(asset=asset)
    spec["asset_key"] = known[spec["asset_id"]]
    background = _mapping(spec.get("background"))
    if background.get("asset_id"):
        spec["background"]["asset_key"] = known[background["asset_id"]]
    for identity in _identities(spec):
        _enrolled(connection, tenant, identity)
    if source is not None:
        spec["rerender"] = {"of": source.id, "result": source.result or {}}
    return spec


def _keys(connection: sa.Connection, tenant: str, ids: Collection[str]) -> dict[Any, str]:
    """Keys of those of these assets that the tenant has."""
    chosen = sa.select(assets.c.id, assets.c.key).where(assets.c.tenant == tenant, assets.c.id.in_(ids))
    return {row.id: row.key for row in connection.execute(chosen)}


def _video_of(source: JobRow) -> str:
    """The asset that a job was made of, whichever door it came through; empty if it is none."""
    spec: Mapping[str, Any] = source.spec
    prefix, _, name = str(spec.get("asset_key") or "").rpartition("/assets/")
    return str(spec.get("asset_id") or (_ASSET + name if prefix == source.tenant else ""))


def _enrolled(connection: sa.Connection, tenant: str, identity: dict[str, Any]) -> None:
    row = identities.one(connection, tenant, identity["identity_id"])
    if row is None or not row.key:
        raise IdentityNotFound(identity=identity["identity_id"])
    methods = {"self": 1, "attested": 2, "synthetic": 3}
    identity["consent"] = {"method": methods.get(row.method, 0), "statement": row.statement}
    identity["enrolled"] = {
        "key": row.key,
        "digest": row.object_digest,
        "is_drawn": bool(row.is_drawn),
        "quality": [{**asdict(each), "warnings": list(each.warnings)} for each in identities.reports(row.quality)],
    }


def _asset_ids(wanted: JsonObject) -> list[str]:
    ids = [wanted.get("asset_id"), _mapping(wanted.get("background")).get("asset_id")]
    return [each for each in ids if isinstance(each, str) and each]


def _identities(wanted: JsonObject) -> list[dict[str, Any]]:
    found: Any = wanted.get("identities") or []
    return list(found)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
