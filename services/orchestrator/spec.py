"""What is to be done to a video, as frozen data; every option is explicit or unset.

A spec comes from outside. It is read whole and everything wrong with it is said at once, by the path of the field, so
that a caller mends it in one go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from services.common.errors import InvalidSpec, UnknownProfile, Violation

PROFILES = ("starter", "studio")
CONTAINERS = ("mp4", "mov", "mkv", "webm")
POLICIES = ("commercial", "research")
CONSENT_METHODS = {1: "self", 2: "attested", 3: "synthetic"}
BACKGROUND_KINDS = {0: "keep", 1: "keep", 2: "image", 3: "video", 4: "blur", 5: "colour"}
MOST_LABELS = 64
MOST_IDENTITIES = 32
LONGEST_LABEL = 200
MOST_RANGES = 1000
MOST_PUBLICATIONS = 16
GROUP_FRAMES = 8
DEFAULT_PRIORITY, LAST_PRIORITY = 5, 9

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 _.,()+=@-]{0,199}")


@dataclass(frozen=True, slots=True)
class Consent:
    """By which consent a face is used."""

    method: str
    statement: str = ""
    attested_by: str = ""
    """Who said so, in the tenant's words; empty means the caller."""

    scopes: tuple[str, ...] = ()
    """What for; empty means swapping faces."""

    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An identity that was enrolled before, as it was found when the job was created."""

    key: str
    digest: str
    is_drawn: bool
    quality: tuple[Mapping[str, Any], ...] = ()

    def answer(self) -> dict[str, Any]:
        """As enrolling it now would have answered."""
        reference = {"key": self.key, "digest": self.digest}
        return {"identity": reference, "quality": [dict(each) for each in self.quality]}


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """A face to put on: enrolled before, or portraits to enrol for this job."""

    name: str
    identity_id: str | None
    portrait_keys: tuple[str, ...]
    portrait_names: tuple[str, ...]
    consent: Consent
    landmarks_key: str | None
    enrolled: Enrolled | None = None
    """What `identity_id` stands for; unset until it was looked up."""

    @property
    def is_drawn(self) -> bool:
        """Whether it was drawn in mesh space, so that its landmarks are given."""
        return self.landmarks_key is not None if self.enrolled is None else self.enrolled.is_drawn


@dataclass(frozen=True, slots=True)
class CastRule:
    """Which identity goes on whom; no person means everybody."""

    identity: str
    person: int | None


@dataclass(frozen=True, slots=True)
class Background:
    """What is behind the foreground."""

    kind: str = "keep"
    asset_key: str | None = None
    rgb: int | None = None
    blur: float | None = None


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open range after the first displayed frame; no end means the end of the video."""

    start_ms: int
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class Engines:
    """Engines and models by name; None means the profile's."""

    detector: str | None = None
    swapper: str | None = None
    swapper_options: Mapping[str, str] = field(default_factory=dict)
    segmenter: str | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """Settings for proofs and tests; None means the setting's."""

    plane_digests: bool | None = None
    dump_planes: bool = False
    segments: int = 0


@dataclass(frozen=True, slots=True)
class Publication:
    """A second place for the result."""

    place: str
    name: str = ""
    """Of the file there; empty means the job's id and the container's suffix."""


@dataclass(frozen=True, slots=True)
class Rerender:
    """The job whose Timeline is used."""

    of: str
    result: Mapping[str, Any]
    """What its workflow answered."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is to be done."""

    asset_key: str
    identities: tuple[JobIdentity, ...] = ()
    cast: tuple[CastRule, ...] = ()
    background: Background = Background()
    keep: tuple[TimeRange, ...] = ()
    apply: tuple[TimeRange, ...] = ()
    encode: Mapping[str, Any] = field(default_factory=dict)
    """The encode settings that are explicit, by the names of the contract."""

    profile: str | None = None
    """By name; None means the one that the services run."""

    engines: Engines = Engines()
    label: str = ""
    metadata: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    licence_policy: str = ""
    """Empty means the one that is served."""

    proof: Proof = Proof()
    segment_frames: int = 0
    publish: tuple[Publication, ...] = ()
    priority: int = DEFAULT_PRIORITY
    """0 is served first."""

    rerender: Rerender | None = None

    @property
    def container(self) -> str:
        """Suffix of the output without its dot."""
        return str(self.encode.get("container") or "mp4")

    @property
    def changes_pixels(self) -> bool:
        """Whether any effect is asked for at all."""
        return bool(self.identities or self.background.kind != "keep" or self.label)


def read_spec(value: Mapping[str, Any]) -> JobSpec:
    """Read a spec from the JSON form of its message.

    Raises:
        UnknownProfile: the profile is not ours.
        InvalidSpec: with one violation for each field that is wrong.
    """
    spec, found = survey(value)
    if found:
        raise InvalidSpec(violations=found)
    if spec.profile is not None and spec.profile not in PROFILES:
        raise UnknownProfile(profile=spec.profile, known=", ".join(PROFILES))
    return spec


def survey(value: Mapping[str, Any]) -> tuple[JobSpec, list[Violation]]:
    """A spec as far as it can be read, and what is wrong with its form; profiles are names, and not looked at."""
    problems = _Problems()
    spec = JobSpec(
        asset_key=value.get("asset_key") or "",
        identities=tuple(_identity(each) for each in value.get("identities", ())),
        cast=tuple(CastRule(rule.get("identity", ""), rule.get("person")) for rule in value.get("cast", ())),
        background=_background(value.get("background") or {}, problems),
        keep=_ranges(value.get("keep", ()), "keep", problems),
        apply=_ranges(value.get("apply", ()), "apply", problems),
        encode=dict(value.get("encode") or {}),
        profile=value.get("profile") or None,
        engines=_engines(value.get("engines") or {}),
        label=(value.get("provenance") or {}).get("label") or "",
        metadata=(value.get("provenance") or {}).get("metadata", True),
        labels=dict(value.get("labels") or {}),
        licence_policy=value.get("licence_policy") or "",
        proof=_proof(value.get("proof") or {}),
        segment_frames=value.get("segment_frames") or 0,
        publish=tuple(Publication(each.get("place", ""), each.get("name") or "") for each in value.get("publish", ())),
        priority=value.get("priority", DEFAULT_PRIORITY),
        rerender=None if value.get("rerender") is None else Rerender(**value["rerender"]),
    )
    _check(spec, problems)
    return spec, problems.found


class _Problems:
    """Everything that is wrong, collected."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def unless(self, is_right: object, path: str, problem: str) -> None:
        if not is_right:
            self.found.append(Violation(f"spec.{path}", problem))


def _identity(value: Mapping[str, Any]) -> JobIdentity:
    consent, enrolled = value.get("consent") or {}, value.get("enrolled")
    return JobIdentity(
        name=value.get("name", ""),
        identity_id=value.get("identity_id"),
        portrait_keys=tuple(value.get("portrait_keys", ())),
        portrait_names=tuple(value.get("portrait_names", ())),
        consent=_consent(consent),
        landmarks_key=value.get("landmarks_key"),
        enrolled=None if enrolled is None else Enrolled(**{**enrolled, "quality": tuple(enrolled["quality"])}),
    )


def _consent(value: Mapping[str, Any]) -> Consent:
    expires = value.get("expire_time")
    return Consent(
        method=CONSENT_METHODS.get(value.get("method", 0), ""),
        statement=value.get("statement", ""),
        attested_by=value.get("attested_by") or "",
        scopes=tuple(value.get("scopes") or ()),
        expires_ms=None if not expires else round(datetime.fromisoformat(expires).timestamp() * 1000),
    )


def _background(value: Mapping[str, Any], problems: _Problems) -> Background:
    kind = value.get("kind", 0)
    problems.unless(kind in BACKGROUND_KINDS, "background.kind", f"{kind} is no kind of background")
    return Background(
        kind=BACKGROUND_KINDS.get(kind, "keep"),
        asset_key=value.get("asset_key"),
        rgb=value.get("rgb"),
        blur=value.get("blur"),
    )


def _engines(value: Mapping[str, Any]) -> Engines:
    return Engines(
        detector=value.get("detector"),
        swapper=value.get("swapper"),
        swapper_options=dict(value.get("swapper_options") or {}),
        segmenter=value.get("segmenter"),
    )


def _proof(value: Mapping[str, Any]) -> Proof:
    return Proof(value.get("plane_digests"), bool(value.get("dump_planes")), value.get("segments") or 0)


def _ranges(values: Sequence[Mapping[str, Any]], path: str, problems: _Problems) -> tuple[TimeRange, ...]:
    problems.unless(len(values) <= MOST_RANGES, path, f"{len(values)} ranges; at most {MOST_RANGES}")
    ranges = tuple(TimeRange(value.get("start_ms", 0), value.get("end_ms")) for value in values)
    for number, each in enumerate(ranges):
        problems.unless(each.start_ms >= 0, f"{path}[{number}].start_ms", f"{each.start_ms} is before the first frame")
        is_empty = each.end_ms is not None and each.end_ms <= each.start_ms
        problems.unless(not is_empty, f"{path}[{number}]", "the range ends before it begins")
    for number, (before, after) in enumerate(pairwise(ranges), start=1):
        follows = before.end_ms is not None and before.end_ms <= after.start_ms
        problems.unless(follows, f"{path}[{number}]", "begins before the range in front of it has ended")
    return ranges


def _check(spec: JobSpec, problems: _Problems) -> None:
    problems.unless(spec.asset_key, "asset_key", "is missing")
    _check_identities(spec, problems)
    _check_background(spec.background, problems)
    _check_encode(spec, problems)
    problems.unless(
        spec.licence_policy in ("", *POLICIES),
        "licence_policy",
        f"{spec.licence_policy!r} is none of {', '.join(POLICIES)}",
    )
    count = len(spec.label)
    problems.unless(count <= LONGEST_LABEL, "provenance.label", f"{count} letters; at most {LONGEST_LABEL}")
    problems.unless(len(spec.labels) <= MOST_LABELS, "labels", f"{len(spec.labels)} labels; at most {MOST_LABELS}")
    problems.unless(
        spec.segment_frames % GROUP_FRAMES == 0,
        "segment_frames",
        f"{spec.segment_frames} is no multiple of {GROUP_FRAMES}, the length of a group",
    )
    problems.unless(
        0 <= spec.priority <= LAST_PRIORITY, "priority", f"{spec.priority} is not from 0 to {LAST_PRIORITY}"
    )
    _check_publications(spec.publish, problems)


def _check_publications(publications: Sequence[Publication], problems: _Problems) -> None:
    count = len(publications)
    problems.unless(count <= MOST_PUBLICATIONS, "publish", f"{count} places; at most {MOST_PUBLICATIONS}")
    for number, each in enumerate(publications):
        path = f"publish[{number}]"
        problems.unless(each.place, f"{path}.place", "is missing")
        is_plain = not each.name or _FILE_NAME.fullmatch(each.name)
        problems.unless(is_plain, f"{path}.name", "is no plain file name")
        problems.unless(each not in publications[:number], path, "is there twice")


def _check_identities(spec: JobSpec, problems: _Problems) -> None:
    names = [identity.name for identity in spec.identities]
    problems.unless(len(names) <= MOST_IDENTITIES, "identities", f"{len(names)} faces; at most {MOST_IDENTITIES}")
    for number, identity in enumerate(spec.identities):
        path = f"identities[{number}]"
        problems.unless(_NAME.fullmatch(identity.name), f"{path}.name", "is no plain name of 1 to 64 characters")
        problems.unless(names.index(identity.name) == number, f"{path}.name", f"{identity.name!r} is there twice")
        has_one = bool(identity.identity_id) != bool(identity.portrait_keys)
        problems.unless(has_one, path, "needs either identity_id or portrait_keys")
        count = len(identity.portrait_names)
        problems.unless(
            count in {0, len(identity.portrait_keys)},
            f"{path}.portrait_names",
            f"{count} names for {len(identity.portrait_keys)} portraits",
        )
        if identity.identity_id:
            # Its consent was recorded when it was enrolled.
            continue
        problems.unless(identity.consent.method, f"{path}.consent.method", "nobody said by which consent it is used")
        problems.unless(
            identity.consent.method != "attested" or identity.consent.statement.strip(),
            f"{path}.consent.statement",
            "attested consent needs the words that were attested",
        )
        problems.unless(
            identity.consent.method != "synthetic" or identity.is_drawn,
            f"{path}.consent.method",
            "synthetic is for drawn faces, whose landmarks are given",
        )
    for number, rule in enumerate(spec.cast):
        problems.unless(rule.identity in names, f"cast[{number}].identity", f"{rule.identity!r} is none of the faces")


def _check_background(background: Background, problems: _Problems) -> None:
    needs_asset = background.kind in {"image", "video"}
    problems.unless(background.asset_key or not needs_asset, "background.asset_key", f"{background.kind} needs a file")
    problems.unless(needs_asset or not background.asset_key, "background.asset_key", f"{background.kind} takes no file")
    if background.kind == "colour":
        in_range = background.rgb is not None and 0 <= background.rgb <= 0xFFFFFF
        problems.unless(in_range, "background.rgb", "is no colour 0xRRGGBB")
    if background.blur is not None:
        problems.unless(0 < background.blur <= 0.5, "background.blur", "is a fraction of the width, above 0 up to 0.5")


def _check_encode(spec: JobSpec, problems: _Problems) -> None:
    encode = spec.encode
    problems.unless(
        spec.container in CONTAINERS, "encode.container", f"{spec.container!r} is none of {', '.join(CONTAINERS)}"
    )
    problems.unless(0 <= encode.get("crf", 20) <= 51, "encode.crf", "is from 0 to 51")
    problems.unless(0 <= encode.get("bframes", 2) <= 16, "encode.bframes", "is from 0 to 16")
    problems.unless(1 <= encode.get("threads", 2) <= 16, "encode.threads", "is from 1 to 16")
