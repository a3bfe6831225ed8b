"""Certificates as files: what is refused and how it is named, what is complained about, what dashboards see."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from prometheus_client import REGISTRY

from services.common import errors
from services.common.access.certificates import Files, Watched, read
from services.common.access.wire import MeshWire, public_tls
from services.common.settings import ServiceSettings
from tests.support.certificates import Papers, after

DAY_S = 24 * 3600


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


def refused(files: Files, *, days: float = 0) -> errors.InvalidSetting:
    with pytest.raises(errors.InvalidSetting) as raised:
        read(files, now=after(days))
    return raised.value


def test_files_that_cannot_be_used_are_named_with_their_setting(papers: Papers, tmp_path: Path) -> None:
    files = papers.files()
    (tmp_path / "words").write_text("-----BEGIN WORDS-----")
    words, absent = os.fspath(tmp_path / "words"), os.fspath(tmp_path / "absent")
    for field, setting in (("certificate", "mesh_certificate"), ("key", "mesh_key"), ("ca", "mesh_ca")):
        for path, problem in ((words, "PEM"), (absent, "No such file"), (os.fspath(tmp_path), "Is a directory")):
            error = refused(dataclasses.replace(files, **{field: path}))
            assert error.fields["setting"] == setting
            assert problem in error.fields["problem"]
    assert refused(dataclasses.replace(files, key="")).fields["setting"] == "mesh_key"


def test_a_key_with_a_password_is_refused(papers: Papers) -> None:
    private = load_pem_private_key(papers.key.read_bytes(), None)
    papers.key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    assert "password" in refused(papers.files()).fields["problem"]


def test_a_key_of_another_certificate_is_refused(papers: Papers, tmp_path: Path) -> None:
    papers.key.write_bytes(Papers(tmp_path / "other").key.read_bytes())
    error = refused(papers.files())
    assert (error.fields["setting"], error.fields["problem"]) == ("mesh_key", "is the key of another certificate")


def test_a_certificate_holds_from_its_first_to_its_last_day(papers: Papers) -> None:
    papers.renew(begins_days=-1, ends_days=1)
    assert read(papers.files(), now=after(0)).ends == pytest.approx(after(1), abs=after(1) - after(1 - 1 / 1440))
    assert f"expired on {after(1):%Y-%m-%d}" in refused(papers.files(), days=1.01).fields["problem"]
    assert f"holds from {after(-1):%Y-%m-%d}" in refused(papers.files(), days=-1.01).fields["problem"]


def test_an_issuer_in_the_file_that_ends_earlier_is_what_counts(papers: Papers, tmp_path: Path) -> None:
    papers.renew(ends_days=30)
    early = Papers(tmp_path / "early", ends_days=3)
    papers.certificate.write_bytes(papers.certificate.read_bytes() + early.certificate.read_bytes())
    assert "expired on" in refused(papers.files(), days=4).fields["problem"]


@pytest.mark.parametrize(("days", "is_told"), [(13.9, True), (14.1, False)])
def test_an_end_within_two_weeks_is_complained_about(
    days: float, is_told: bool, papers: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    papers.renew(ends_days=days)
    Watched(papers.files())
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == is_told
    left_s = REGISTRY.get_sample_value("masquerade_tls_certificate_expires_seconds", {"certificate": "mesh"})
    assert left_s == pytest.approx(days * DAY_S, abs=60)


def test_dashboards_see_the_end_of_the_renewed_certificate(papers: Papers) -> None:
    papers.renew(ends_days=2)
    watched = Watched(papers.files())
    papers.renew(ends_days=90)
    watched.current()
    left_s = REGISTRY.get_sample_value("masquerade_tls_certificate_expires_seconds", {"certificate": "mesh"})
    assert left_s == pytest.approx(90 * DAY_S, abs=60)


def test_half_of_the_settings_is_an_error_and_not_plain_text(papers: Papers) -> None:
    for name in papers.mesh:
        others = {key: value for key, value in papers.mesh.items() if key != name}
        with pytest.raises(errors.InvalidSetting) as raised:
            MeshWire.of(ServiceSettings(**others))
        assert raised.value.fields["setting"] == name
    for given in ("tls_certificate", "tls_key", "tls_client_ca"):
        with pytest.raises(errors.InvalidSetting, match="is not set"):
            public_tls(ServiceSettings(**{given: os.fspath(papers.certificate)}), listen="127.0.0.1:0")
    assert MeshWire.of(ServiceSettings()) is None
    assert public_tls(ServiceSettings(), listen="127.0.0.1:0") is None
