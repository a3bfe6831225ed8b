"""Settings: who wins, who is refused, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ByteSize

from services.common import errors
from services.common.settings import ServiceSettings

MiB = 1 << 20


class SegmenterSettings(ServiceSettings):
    service: ClassVar[str] = "segmenter"

    model: str = "selfie_landscape"
    """Matting model by its folder's name in model_repository/."""

    batch_bytes: ByteSize = ByteSize(8 * MiB)
    """Most bytes of frames in one call to the model; more frames are split, never refused."""

    names: tuple[str, ...] = ()
    """A list."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "masquerade.toml").write_text('log_level = "ERROR"\n[segmenter]\nmodel = "from_file"\n')
    return tmp_path


def load(environ: dict[str, str] | None = None, **flags: object) -> SegmenterSettings:
    return SegmenterSettings.load(flags, environ=environ or {})


def test_defaults_hold_where_nobody_chose() -> None:
    settings = load({"XDG_DATA_HOME": "/nowhere"})
    assert (settings.model, settings.batch_bytes, settings.origin("model")) == ("selfie_landscape", 8 * MiB, "default")


def test_a_flag_wins_over_the_environment_and_that_over_the_file(data: Path) -> None:
    variable = {"MASQUERADE_SEGMENTER__MODEL": "from_environment"}
    assert load(data=data).model == "from_file"
    assert load(variable, data=data).model == "from_environment"
    assert load(variable, data=data, model="from_flag").model == "from_flag"
    assert load(variable, data=data, model=None).model == "from_environment"
    assert load({"MASQUERADE_DATA": str(data)}).model == "from_file"


def test_the_origin_of_each_value_is_known(data: Path) -> None:
    settings = load({"MASQUERADE_SEGMENTER__BATCH_BYTES": "2MiB"}, data=data)
    lines = {line.name: line for line in settings.lines()}
    assert lines["segmenter.model"].origin == "masquerade.toml segmenter.model"
    assert lines["log_level"].origin == "masquerade.toml log_level"
    assert lines["segmenter.batch_bytes"].origin == "environment MASQUERADE_SEGMENTER__BATCH_BYTES"
    assert lines["data"].origin == "flag --data"
    assert lines["listen"].origin == "default"


def test_every_setting_says_what_it_means() -> None:
    assert [line.name for line in load().lines() if not line.description] == []


def test_what_all_share_may_be_set_for_all_or_for_one() -> None:
    shared = {"MASQUERADE_WORKERS": "3"}
    assert load(shared).workers == 3
    assert load({**shared, "MASQUERADE_SEGMENTER__WORKERS": "5"}).workers == 5
    assert load({**shared, "MASQUERADE_DETECTOR__WORKERS": "5"}).workers == 3


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("MASQUERADE_LOG_LEVL", "MASQUERADE_LOG_LEVEL"),
        ("MASQUERADE_SEGMENTER__MODLE", "MASQUERADE_SEGMENTER__MODEL"),
        ("MASQUERADE_SEGMENTR__MODEL", "MASQUERADE_SEGMENTER__MODEL"),
    ],
)
def test_an_unknown_variable_is_refused_and_the_nearest_named(variable: str, nearest: str) -> None:
    with pytest.raises(errors.UnknownSetting) as raised:
        load({variable: "x"})
    assert raised.value.fields == {"setting": variable, "nearest": nearest}


@pytest.mark.parametrize(
    "variable",
    [
        "MASQUERADE_INGEST_SERVICE_HOST",
        "MASQUERADE_INGEST_SERVICE_PORT",
        "MASQUERADE_INGEST_SERVICE_PORT_GRPC",
        "MASQUERADE_INGEST_PORT",
        "MASQUERADE_INGEST_PORT_50051_TCP_ADDR",
        "MASQUERADE_PORT",
        "MASQUERADE_SHARED",
        "MASQUERADE_DETECTOR__SOMETHING_OF_ITS_OWN",
        "UNRELATED",
    ],
)
def test_variables_of_others_are_ignored(variable: str) -> None:
    load({variable: "tcp://10.0.0.1:50051"})


def test_a_setting_cannot_have_a_name_that_kubernetes_uses() -> None:
    with pytest.raises(TypeError):
        type("Wrong", (ServiceSettings,), {"__annotations__": {"grpc_port": int}, "grpc_port": 1})


@pytest.mark.parametrize("text", ["modle = 1", "[segmenter]\nmodle = 1", "data = '/x'", "segmenter = 1", "a = ["])
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "masquerade.toml").write_text(text)
    with pytest.raises((errors.UnknownSetting, errors.InvalidSetting)):
        load(data=tmp_path)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MASQUERADE_WORKERS", "many"), ("MASQUERADE_WORKERS", "0"), ("MASQUERADE_LOG_LEVEL", "LOUD")],
)
def test_a_wrong_value_is_refused_with_its_name(variable: str, value: str) -> None:
    with pytest.raises(errors.InvalidSetting) as raised:
        load({variable: value})
    assert variable.removeprefix("MASQUERADE_") in str(raised.value).upper()
    assert value in str(raised.value)


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(errors.InvalidSetting):
        load(modle="x")


def test_lists_and_sizes_are_read_from_text() -> None:
    settings = load(
        {
            "MASQUERADE_SEGMENTER__NAMES": "a, b",
            "MASQUERADE_RING_BYTES": "64MiB",
            "MASQUERADE_PLANE_DIGESTS": "1",
        }
    )
    assert (settings.names, settings.ring_bytes, settings.plane_digests) == (("a", "b"), 64 * MiB, True)
    assert load({"MASQUERADE_SEGMENTER__NAMES": '["a", "b"]'}).names == ("a", "b")


def test_secrets_are_not_printed() -> None:
    settings = load({"MASQUERADE_S3_SECRET_KEY": "hush"})
    assert settings.s3_secret_key.get_secret_value() == "hush"
    assert all("hush" not in line.value for line in settings.lines())
    assert "hush" not in repr(settings)


def test_a_data_folder_that_is_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(errors.InvalidSetting, match="Not a directory"):
        ServiceSettings.load({"data": tmp_path / "data"}, environ={})
