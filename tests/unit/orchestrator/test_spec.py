"""A spec from outside is read whole, and everything wrong with it is said at once."""

from __future__ import annotations

from typing import Any

import pytest

from masquerade.v1 import job_pb2
from services.common.errors import InvalidSpec, UnknownProfile
from services.orchestrator.convert import from_json, to_json
from services.orchestrator.spec import read_spec


def spec(**changes: Any) -> dict[str, Any]:
    face = {"name": "anna", "portrait_keys": ["local/assets/a"], "consent": {"method": 1}}
    return {"asset_key": "local/assets/v", "identities": [face], **changes}


def violations(value: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        read_spec(value)
    return {violation.field: violation.problem for violation in caught.value.violations}


def test_a_spec_with_nothing_but_a_video_has_the_defaults() -> None:
    read = read_spec({"asset_key": "local/assets/v"})
    assert (read.profile, read.container, read.background.kind, read.licence_policy) == (
        None,
        "mp4",
        "keep",
        "",
    )
    assert not read.changes_pixels


def test_all_violations_are_listed_at_once() -> None:
    wrong = spec(
        asset_key="",
        background={"kind": 2},
        keep=[{"start_ms": 2000, "end_ms": 1000}],
        encode={"container": "avi", "crf": 99},
        licence_policy="pirate",
        cast=[{"identity": "berta"}],
        segment_frames=12,
    )
    assert set(violations(wrong)) == {
        "spec.asset_key",
        "spec.background.asset_key",
        "spec.keep[0]",
        "spec.encode.container",
        "spec.encode.crf",
        "spec.licence_policy",
        "spec.cast[0].identity",
        "spec.segment_frames",
    }


@pytest.mark.parametrize(
    ("consent", "path"),
    [
        ({}, "spec.identities[0].consent.method"),
        ({"method": 2, "statement": "  "}, "spec.identities[0].consent.statement"),
        ({"method": 3}, "spec.identities[0].consent.method"),
    ],
    ids=["nobody said", "attested without words", "a photo is not synthetic"],
)
def test_no_face_is_used_without_a_consent_that_fits(consent: dict[str, Any], path: str) -> None:
    face = {"name": "anna", "portrait_keys": ["local/assets/a"], "consent": consent}
    assert list(violations(spec(identities=[face]))) == [path]


@pytest.mark.parametrize(
    ("ranges", "path"),
    [
        ([{"start_ms": -1}], "spec.apply[0].start_ms"),
        ([{"start_ms": 0, "end_ms": 0}], "spec.apply[0]"),
        ([{"start_ms": 0, "end_ms": 2000}, {"start_ms": 1999}], "spec.apply[1]"),
        ([{"start_ms": 0}, {"start_ms": 5000, "end_ms": 6000}], "spec.apply[1]"),
    ],
    ids=["before the video", "empty", "overlapping", "after an open end"],
)
def test_ranges_are_in_order_and_hold_something(ranges: list[dict[str, int]], path: str) -> None:
    assert path in violations(spec(apply=ranges))


def test_a_name_is_used_once_and_an_identity_has_one_source() -> None:
    face = spec()["identities"][0]
    both = {**face, "name": "both", "identity_id": "idn_a"}
    assert list(violations(spec(identities=[face, face, both]))) == ["spec.identities[1].name", "spec.identities[2]"]


def test_an_unknown_profile_has_an_error_of_its_own() -> None:
    with pytest.raises(UnknownProfile):
        read_spec(spec(profile="deluxe"))


def test_a_message_survives_the_way_through_a_row() -> None:
    message = job_pb2.JobSpec(asset_key="local/assets/v", labels={"a": "b"})
    message.identities.add(name="anna", portrait_keys=["k"]).consent.method = job_pb2.CONSENT_METHOD_SELF
    message.keep.add(start_ms=2**40, end_ms=2**41)
    message.keep.add(start_ms=2**42)
    message.background.blur = 0.0625
    value = to_json(message)
    assert value["keep"] == [{"start_ms": 2**40, "end_ms": 2**41}, {"start_ms": 2**42}], "numbers stay numbers"
    assert "profile" not in value, "what is unset stays out"
    assert from_json(value, job_pb2.JobSpec) == message
