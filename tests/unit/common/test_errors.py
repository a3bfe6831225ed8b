"""Errors: one table, one text each, the same at both ends of a wire."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import errors, errors_doc
from services.common.error_base import fill
from services.common.error_table import TABLE, Code, Exit
from services.common.errors import BY_REASON, MasqueradeError, Violation, exit_code_of, from_reason
from services.common.status import from_rpc_error, from_status, grpc_code, to_status

ROOT = Path(__file__).resolve().parents[3]
every_reason = pytest.mark.parametrize("reason", sorted(TABLE))


def test_the_contract_the_table_and_the_classes_name_the_same_reasons() -> None:
    proto = (ROOT / "protos/masquerade/v1/errors.proto").read_text()
    contract = set(re.findall(r"^  REASON_(\w+) = \d+;", proto, re.M)) - {"UNSPECIFIED"}
    assert contract == set(TABLE) == set(BY_REASON)


def test_the_document_is_the_one_that_the_table_makes() -> None:
    document = ROOT / "docs/errors.md"
    assert document.read_text() == errors_doc.render(), "run python -m services.common.errors_doc"


@every_reason
def test_every_reason_has_a_text_with_and_without_its_fields(reason: str) -> None:
    error_class = BY_REASON[reason]
    names = re.findall(r"\{(\w+)", TABLE[reason].text)
    bare, full = error_class(), error_class(**dict.fromkeys(names, "42"))
    for error in (bare, full):
        assert not re.search(r"[\[\]{}|]|\s\s|\s[,;:]|^\s|[\s:,;]$", error.text()), error.text()
        assert error.remedy in str(error)
    assert all(name not in TABLE[reason].remedy for name in ("{", "}"))
    assert full.text().count("42") >= len(set(names))


@every_reason
def test_every_error_survives_the_wire_and_a_pickle(reason: str) -> None:
    error = BY_REASON[reason](
        path="ä.mp4", count=3, remedy="do this", violations=[Violation("a.b[0]", "is wrong"), Violation("c", "too")]
    )
    for again in (from_status(to_status(error)), pickle.loads(pickle.dumps(error))):
        assert again is not None
        assert type(again) is BY_REASON[reason]
        assert (again.fields, again.violations, again.remedy) == (error.fields, error.violations, error.remedy)
        assert str(again) == str(error)


@every_reason
def test_every_exit_status_is_one_of_the_five(reason: str) -> None:
    assert BY_REASON[reason]().exit_code in {0, 1, 2, 3, 130}
    assert grpc_code(BY_REASON[reason]()).value[0] == TABLE[reason].code


def test_refusals_exit_with_two_absences_with_three_and_the_rest_with_one() -> None:
    assert exit_code_of(errors.NotAVideo()) == Exit.REFUSED == 2
    assert exit_code_of(errors.ModelMissing()) == Exit.DEPENDENCY_ABSENT == 3
    assert exit_code_of(errors.Internal()) == exit_code_of(ValueError()) == 1
    assert exit_code_of(errors.Cancelled()) == exit_code_of(KeyboardInterrupt()) == 130


def test_what_the_text_does_not_mention_follows_it() -> None:
    text = str(errors.NoFaceInPortrait(portrait="anna.jpg", looked_at="1 picture, 640x480", detector="blazeface"))
    assert text.startswith("no face was found in anna.jpg (looked at 1 picture, 640x480) (detector blazeface): use a")


def test_unknown_fields_are_left_out_and_none_means_unknown() -> None:
    assert errors.NotAVideo(path=None, found=None).text() == "the file is not a video that can be read"
    assert errors.NotAVideo(path=Path("a.mp4")).fields == {"path": "a.mp4"}


@given(st.dictionaries(st.sampled_from(["path", "found", "x"]), st.text(max_size=30)))
def test_any_text_in_a_field_is_shown_and_not_read(fields: dict[str, str]) -> None:
    text = fill("{path|the file} is not a video[; it looks like {found}]", fields)
    assert all(value in text for value in fields.values())


def test_long_fields_fit_into_metadata() -> None:
    error = errors.Internal(**{f"field{n}": "x" * 5000 for n in range(40)}, violations=[])
    assert len(to_status(error).SerializeToString()) < 6000


def test_an_overload_says_when_to_come_again() -> None:
    details = to_status(errors.RingFull(retry_after_s=0.25)).details
    assert [detail.type_url.rpartition(".")[2] for detail in details] == [
        "ErrorInfo",
        "RetryInfo",
        "LocalizedMessage",
    ]


def test_a_reason_of_a_newer_peer_is_named() -> None:
    error = from_reason("MOON_TOO_BRIGHT", {"lux": "3"})
    assert type(error) is errors.Internal
    assert error.fields == {"peer_reason": "MOON_TOO_BRIGHT", "lux": "3"}


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, errors.Cancelled),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Internal),
    ],
)
def test_a_status_that_grpc_itself_made_is_typed_too(code: grpc.StatusCode, error_class: type[MasqueradeError]) -> None:
    call = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="socket closed")
    error = from_rpc_error(call, peer="swapper")
    assert type(error) is error_class
    assert error.fields["peer"] == "swapper"


def test_codes_are_those_of_grpc() -> None:
    assert {code.name: int(code) for code in Code} == {
        code.name: code.value[0] for code in grpc.StatusCode if code is not grpc.StatusCode.OK
    }


def test_errors_load_without_grpc_because_children_need_them() -> None:
    program = "import sys, services.common.errors, services.common.nursery; print('grpc' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
