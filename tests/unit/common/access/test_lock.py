"""Whatever a stranger sends as proof of who it is: it is refused with a reason, and is never a fault of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common import errors
from services.common.access.door import build_public_server
from services.common.access.interceptor import LockedDoor, public_interceptors
from services.common.access.refusals import Refused
from services.common.access.tokens import Tokens
from services.common.interceptors import CallName
from services.common.records.database import Records
from services.common.settings import ServiceSettings
from tests.support.callers import SECRET, Issuer

CALL = CallName("toy.ToyService", "Unary", "unary")
WORDS = st.sampled_from(
    ["Bearer", "bearer ", "Basic ", " ", "msq_", "_", ".", "a" * 26, "b" * 64, "eyJh", "\0", "é", "="]
)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def tokens(issuer: Issuer) -> Tokens:
    made = Tokens.of(ServiceSettings(**issuer.settings))
    assert made is not None
    return made


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def door(issuer: Issuer, loop: asyncio.Runner) -> Iterator[LockedDoor]:
    chosen = ServiceSettings(data=issuer.path.parent, **issuer.settings)
    records = Records(chosen.records_url())
    lock, *_ = public_interceptors(chosen, listen="127.0.0.1:0", records=records, secret=SECRET)
    assert isinstance(lock, LockedDoor)
    yield lock
    loop.run(records.close())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=8).map("".join) | st.text(max_size=40), max_size=3))
def test_any_header_is_refused_with_a_reason(door: LockedDoor, loop: asyncio.Runner, shown: list[str]) -> None:
    metadata = [("authorization", text) for text in shown]
    with pytest.raises(errors.Unauthenticated):
        loop.run(door.before(CALL, metadata))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_changed_token_holds(tokens: Tokens, issuer: Issuer, data: st.DataObject) -> None:
    token = issuer.token(data.draw(st.sampled_from(["RS256", "ES256", "EdDSA"])))
    start = data.draw(st.integers(0, len(token) - 1))
    end = data.draw(st.integers(start, min(len(token), start + 8)))
    changed = token[:start] + data.draw(st.text(st.sampled_from("aZ09-_.="), max_size=8)) + token[end:]
    if changed.rstrip("=") == token:
        return
    with pytest.raises(Refused):
        tokens.caller(changed)


def test_a_door_without_a_secret_does_not_open(tmp_path: Path) -> None:
    chosen = ServiceSettings(data=tmp_path)
    records = Records(chosen.records_url())
    with pytest.raises(errors.InvalidSetting, match="secret"):
        build_public_server([], chosen, listen="127.0.0.1:0", records=records, secret=b"")
