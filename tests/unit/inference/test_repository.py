"""Card, config and file of every served model say the same."""

from __future__ import annotations

import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto
from tritonclient.grpc import model_config_pb2

from services.common.inference.models import TensorContract, read_model, read_models
from tests.support.starter_models import REPOSITORY, STARTER, require_weights

CONFIG_TYPES = {model_config_pb2.TYPE_UINT8: "uint8", model_config_pb2.TYPE_FP32: "float32"}
FILE_TYPES = {TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32"}
HEX = set("0123456789abcdef")


def config_of(name: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse((REPOSITORY / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def configured(tensor) -> TensorContract:
    sizes = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
    return TensorContract(tensor.name, CONFIG_TYPES[tensor.data_type], tuple(sizes))


def declared(tensor) -> TensorContract:
    kind = tensor.type.tensor_type
    return TensorContract(tensor.name, FILE_TYPES[kind.elem_type], tuple(axis.dim_value for axis in kind.shape.dim[1:]))


@pytest.mark.parametrize("name", STARTER)
def test_the_config_promises_what_the_card_promises(name):
    model, config = read_model(REPOSITORY, name), config_of(name)
    assert config.name == name
    assert config.platform == "onnxruntime_onnx"
    assert config.max_batch_size == model.max_batch > 1
    assert tuple(map(configured, config.input)) == model.inputs
    assert tuple(map(configured, config.output)) == model.outputs


@pytest.mark.parametrize("name", STARTER)
def test_the_config_batches_warms_up_and_serves_one_version(name):
    config = config_of(name)
    assert config.HasField("dynamic_batching")
    assert config.version_policy.specific.versions == [1]
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    for warm in config.model_warmup:
        assert 1 <= warm.batch_size <= config.max_batch_size
        assert {name: tuple(tensor.dims) for name, tensor in warm.inputs.items()} == {
            tensor.name: tuple(tensor.dims) for tensor in config.input
        }
    assert config.model_warmup


@pytest.mark.parametrize("name", STARTER)
def test_the_file_offers_what_the_card_promises(name):
    require_weights()
    model = read_model(REPOSITORY, name)
    graph = onnx.load(REPOSITORY / name / "1" / "model.onnx").graph
    assert tuple(map(declared, graph.input)) == model.inputs
    assert tuple(map(declared, graph.output)) == model.outputs


def test_every_card_can_be_read_and_says_who_allows_what():
    models = read_models(REPOSITORY)
    assert set(STARTER) <= set(models)
    for model in models.values():
        assert model.profile in {"starter", "studio"}
        assert model.licence.name
        assert model.publisher
        assert model.summary
        for file in model.files:
            assert file.sha256 is None or (len(file.sha256) == 64 and set(file.sha256) <= HEX)


def test_a_studio_card_says_what_it_does_not_know():
    for model in read_models(REPOSITORY).values():
        if model.profile == "studio":
            unsaid = any(file.sha256 is None or file.url is None for file in model.files) or not model.inputs
            assert bool(model.unknown) >= unsaid, model.name


def test_the_starter_profile_may_be_used_for_anything():
    models = read_models(REPOSITORY).values()
    assert all(model.licence.commercial_use for model in models if model.profile == "starter")
