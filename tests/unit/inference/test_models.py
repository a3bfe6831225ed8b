"""What a card says is checked: digests, licence, contract."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.errors import (
    LicenceForbidden,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelMissing,
    UnknownModel,
)
from services.common.inference.models import (
    TensorContract,
    check_contract,
    check_licence,
    read_model,
    read_models,
    read_weights,
)
from tests.support.starter_models import REPOSITORY


@pytest.fixture
def repository(tmp_path) -> Path:
    """The card of one model, without weights."""
    shutil.copytree(REPOSITORY / "selfie", tmp_path / "selfie", ignore=shutil.ignore_patterns("1"))
    return tmp_path


def test_absent_weights_are_an_error_that_says_how_to_get_them(repository):
    with pytest.raises(ModelMissing, match="models pull"):
        read_weights(repository, read_model(repository, "selfie"))


def test_weights_of_another_digest_are_never_loaded(repository):
    (repository / "selfie" / "1").mkdir()
    (repository / "selfie" / "1" / "model.onnx").write_bytes(b"somebody else's")
    with pytest.raises(ModelDigestMismatch) as caught:
        read_weights(repository, read_model(repository, "selfie"))
    assert caught.value.fields["expected"] == read_model(repository, "selfie").digest


@pytest.mark.parametrize("name", ["yolo", "", "..", "../selfie", "selfie/1", "."])
def test_a_name_that_is_no_folder_of_the_repository_is_unknown(repository, name):
    with pytest.raises(UnknownModel) as caught:
        read_model(repository, name)
    assert caught.value.fields["known"] == "selfie"


def test_a_card_that_cannot_be_read_names_the_model(repository):
    (repository / "selfie" / "model.toml").write_text("profile = ")
    with pytest.raises(ModelContractMismatch, match="selfie"):
        read_models(repository)


def test_the_commercial_policy_refuses_what_is_for_research_only():
    models = read_models(REPOSITORY)
    forbidden = replace(models["selfie"], licence=replace(models["selfie"].licence, commercial_use=False))
    check_licence(models["selfie"], "commercial")
    check_licence(forbidden, "research")
    with pytest.raises(LicenceForbidden) as caught:
        check_licence(forbidden, "commercial")
    assert caught.value.fields == {"model": "selfie", "policy": "commercial", "licence": "Apache-2.0"}


@pytest.mark.parametrize(
    "offered",
    [
        (),
        (TensorContract("alpha", "float32", (144, 256)), TensorContract("beta", "float32", ())),
        (TensorContract("alpha", "float16", (144, 256)),),
        (TensorContract("alpha", "float32", (256, 144)),),
    ],
)
def test_a_file_that_offers_something_else_is_refused(offered):
    model = read_models(REPOSITORY)["selfie"]
    check_contract(model, model.inputs, model.outputs)
    with pytest.raises(ModelContractMismatch):
        check_contract(model, model.inputs, offered)
