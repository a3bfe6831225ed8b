"""A face is used by somebody's consent or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import ConsentRequired, InvalidSpec
from services.standalone.consent import ATTESTED, SELF, Consent, Consents, parse_consent


def nobody(_portrait: str) -> Consent:
    raise AssertionError("nobody was to be asked")


def test_an_answer_is_asked_for_once_a_picture_and_remembered_by_its_digest(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(portrait: str) -> Consent:
        asked.append(portrait)
        return Consent(ATTESTED, "by letter")

    Consents(tmp_path / "consents.json").settle("a.jpg", "aa", given=None, ask=ask)
    again = Consents(tmp_path / "consents.json").settle("renamed.jpg", "aa", given=None, ask=nobody)
    assert again == Consent(ATTESTED, "by letter")
    Consents(tmp_path / "consents.json").settle("b.jpg", "bb", given=None, ask=ask)
    assert asked == ["a.jpg", "b.jpg"]


def test_without_a_terminal_and_without_an_answer_it_is_refused_and_nothing_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "consents.json"
    with pytest.raises(ConsentRequired) as caught:
        Consents(path).settle("a.jpg", "aa", given=None, ask=None)
    assert caught.value.exit_code == 2
    assert not path.exists()


def test_what_is_said_now_goes_before_what_was_remembered(tmp_path: Path) -> None:
    consents = Consents(tmp_path / "consents.json")
    consents.settle("a.jpg", "aa", given=Consent(SELF), ask=None)
    consents.settle("a.jpg", "aa", given=Consent(ATTESTED, "by word"), ask=None)
    assert consents.settle("a.jpg", "aa", given=None, ask=None) == Consent(ATTESTED, "by word")


def test_a_torn_file_of_answers_holds_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "consents.json"
    Consents(path).settle("a.jpg", "aa", given=Consent(SELF), ask=None)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ConsentRequired):
        Consents(path).settle("a.jpg", "aa", given=None, ask=None)


@pytest.mark.parametrize("text", ["", "yes", "attested", "attested:", "attested:  ", "self:me", "SELF"])
def test_a_consent_is_self_or_attested_with_words(text: str) -> None:
    with pytest.raises(InvalidSpec):
        parse_consent(text)
    assert parse_consent("attested:she: signed") == Consent(ATTESTED, "she: signed")
    assert parse_consent("self") == Consent(SELF)
