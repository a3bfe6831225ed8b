"""What a person wants done to a video, as a spec; files that are named are uploaded on the way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from masquerade.command.misread import Misread
from masquerade.command.ranges import parse_ranges

if TYPE_CHECKING:
    from masquerade.client import Client, Consent, JobSpec

CONSENT_FORMS: Final = "--consent self, or --consent attested:TEXT with the words that were agreed to"
_COLOUR: Final = re.compile(r"#[0-9A-Fa-f]{6}")
_ID: Final = re.compile(r"(asset|idn)_[a-z2-7]{26}")
PICTURES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Options of `jobs submit` and `jobs rerender`, as they were typed."""

    source: str | None = None
    faces: Sequence[str] = ()
    background: str | None = None
    keep: Sequence[str] = ()
    apply: Sequence[str] = ()
    consent: str | None = None
    container: str | None = None
    label: str | None = None
    labels: Sequence[str] = ()
    profile: str | None = None
    publish: Sequence[str] = ()
    priority: int | None = None
    spec: Path | None = None


def spec_of(client: Client, wanted: Wanted) -> JobSpec:
    """The spec; everything that can be misread is read before the first file is uploaded.

    Raises:
        Misread: an option that cannot be read.
        ClientError: a file that cannot be read or stored.
    """
    from masquerade.client import JobIdentity, JobSpec
    from masquerade.v1.media_pb2 import TimeRange

    spec = _from_file(wanted.spec) if wanted.spec else JobSpec()
    keep, apply = parse_ranges(wanted.keep, option="--keep"), parse_ranges(wanted.apply, option="--apply")
    agreed = parse_consent(wanted.consent) if wanted.consent else None
    for face in wanted.faces:
        if not _is_id(face, "idn_"):
            _agreed(face, agreed)
    _plain(spec, wanted)
    spec.keep.extend(TimeRange(start_ms=each.start_ms, end_ms=each.end_ms) for each in keep)
    spec.apply.extend(TimeRange(start_ms=each.start_ms, end_ms=each.end_ms) for each in apply)
    _background(client, spec, wanted)
    for number, face in enumerate(wanted.faces, start=1):
        name = f"face{number}"
        spec.identities.append(JobIdentity(name=name, identity_id=identity_of(client, face, agreed)))
    if wanted.source is not None:
        spec.asset_id = asset_of(client, wanted.source)
    return spec


def asset_of(client: Client, given: str) -> str:
    """The id of an asset: given as such, or of a file that is stored now."""
    if _is_id(given, "asset_"):
        return given
    return client.assets.upload(given).id


def identity_of(client: Client, given: str, agreed: Consent | None) -> str:
    """The id of an identity: given as such, or of a portrait that is enrolled now.

    Raises:
        Misread: a portrait without a consent.
    """
    if _is_id(given, "idn_"):
        return given
    agreed = _agreed(given, agreed)
    portrait = client.assets.upload(given)
    # The same portrait under the same name and consent is one identity, however often it is named.
    name = Path(given).stem
    said = f"{portrait.id} {agreed.method} {agreed.statement} {name}"
    request = "face-" + hashlib.sha256(said.encode()).hexdigest()
    return client.identities.create(name, portraits=[portrait.id], consent=agreed, request_id=request).id


def _is_id(given: str, prefix: str) -> bool:
    return given.startswith(prefix) and _ID.fullmatch(given) is not None


def _agreed(portrait: str, agreed: Consent | None) -> Consent:
    if agreed is None:
        raise Misread("--consent", f"nobody said by which consent {portrait} is used", CONSENT_FORMS)
    return agreed


def parse_consent(text: str) -> Consent:
    """What `--consent` says.

    Raises:
        Misread: it is neither of the two forms.
    """
    from masquerade.client import Consent
    from masquerade.v1 import job_pb2

    method, colon, statement = text.partition(":")
    if method == "self" and not colon:
        return Consent(method=job_pb2.CONSENT_METHOD_SELF)
    if method == "attested" and statement.strip():
        return Consent(method=job_pb2.CONSENT_METHOD_ATTESTED, statement=statement.strip())
    raise Misread("--consent", f"{text[:80]!r} is neither self nor attested:TEXT", CONSENT_FORMS)


def parse_tags(texts: Sequence[str]) -> dict[str, str]:
    """What `--tag` says.

    Raises:
        Misread: one is no NAME=VALUE.
    """
    tags = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise Misread("--tag", f"{text[:80]!r} is no NAME=VALUE", "write it as --tag project=autumn")
        tags[name] = value
    return tags


def _plain(spec: JobSpec, wanted: Wanted) -> None:
    if wanted.container:
        spec.encode.container = wanted.container
    if wanted.label:
        spec.provenance.label = wanted.label
    if wanted.profile:
        spec.profile = wanted.profile
    if wanted.priority is not None:
        spec.priority = wanted.priority
    spec.labels.update(parse_tags(wanted.labels))
    for text in wanted.publish:
        place, _, name = text.partition(":")
        publication = spec.publish.add(place=place)
        if name:
            publication.name = name


def _background(client: Client, spec: JobSpec, wanted: Wanted) -> None:
    from masquerade.v1 import compositor_pb2 as pb

    given = wanted.background
    if not given:
        return
    if given == "blur":
        spec.background.kind = pb.BACKGROUND_KIND_BLUR
    elif given.startswith("#"):
        if not _COLOUR.fullmatch(given):
            raise Misread("--background", f"{given[:20]!r} is no colour", "write it as #RRGGBB, in quotes")
        spec.background.kind = pb.BACKGROUND_KIND_COLOUR
        spec.background.rgb = int(given[1:], 16)
    else:
        spec.background.asset_id = asset_of(client, given)
        name = client.assets.get(given).name if _is_id(given, "asset_") else given
        is_picture = Path(name).suffix.lower() in PICTURES
        spec.background.kind = pb.BACKGROUND_KIND_IMAGE if is_picture else pb.BACKGROUND_KIND_VIDEO


def _from_file(path: Path) -> JobSpec:
    from google.protobuf import json_format

    from masquerade.client import JobSpec

    try:
        return json_format.Parse(path.read_text(encoding="utf-8"), JobSpec())
    except OSError as error:
        raise Misread("--spec", f"{path} cannot be read ({error.strerror})", "look at the path") from error
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise Misread(
            "--spec", f"{path} is no JobSpec: {error}", "see job.proto; `jobs show --json` prints one"
        ) from error
