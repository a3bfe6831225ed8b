"""The converted starter models answer what their own runtime answers, and come out in the same bytes each time."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from services.common.inference.models import read_model
from services.standalone.models.answers import region_indices
from services.standalone.models.convert import RECIPES, convert
from services.standalone.models.operators import explicit_pads
from services.standalone.models.tflite_reader import read_tflite
from services.standalone.models.translation import Translation
from tests.support.starter_models import REPOSITORY, STARTER, goldens, pictures, publisher_file

LANDMARKS_PX = 2e-4
MATTE = 1e-4


def converted(name: str, *, raw: bool = False) -> bytes:
    model = read_model(REPOSITORY, name)
    return convert(publisher_file(model, model.weights), recipe=RECIPES[model.weights.converter or ""], raw=raw)


def answers(content: bytes, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


@pytest.mark.parametrize("name", STARTER)
def test_converting_twice_gives_the_promised_bytes_twice(name):
    first, second = converted(name), converted(name)
    assert first == second
    assert hashlib.sha256(first).hexdigest() == read_model(REPOSITORY, name).digest


@pytest.mark.parametrize("name", STARTER)
def test_the_file_is_of_the_opset_that_old_runtimes_read(name):
    model = onnx.load_from_string(converted(name))
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert {node.domain for node in model.graph.node} == {""}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_raw_landmarks_are_those_of_the_models_own_runtime():
    answered = answers(converted("facemesh", raw=True), goldens()["inputs_192"])
    for number, values in enumerate(answered.values()):
        recorded = goldens()[f"face_landmark_with_attention.{number}"]
        assert np.abs(values - recorded).max() <= LANDMARKS_PX


def test_points_are_the_finest_that_the_models_own_runtime_gives():
    model = read_model(REPOSITORY, "facemesh")
    answered = answers(converted("facemesh"), goldens()["inputs_192"])
    mesh, lips, left_eye, right_eye, left_iris, right_iris, flag = (
        goldens()[f"face_landmark_with_attention.{number}"].reshape(3, -1) for number in range(7)
    )
    lips_at, left_at, right_at = region_indices(Translation(read_tflite(publisher_file(model, model.weights))))
    expected = np.zeros((3, 478, 3), np.float64)
    expected[:, :468] = mesh.reshape(3, 468, 3)
    for indices, values in ((lips_at, lips), (left_at, left_eye), (right_at, right_eye)):
        expected[:, indices, :2] = values.reshape(3, -1, 2)
    for first, values, eye in ((468, left_iris, left_at), (473, right_iris, right_at)):
        expected[:, first : first + 5, :2] = values.reshape(3, 5, 2)
        expected[:, first : first + 5, 2] = expected[:, eye[:16], 2].mean(axis=1, keepdims=True)
    assert np.abs(answered["points"] - expected).max() <= LANDMARKS_PX
    assert np.abs(answered["presence"] - 1 / (1 + np.exp(-flag[:, 0].astype(np.float64)))).max() <= 1e-5


def test_irises_lie_inside_the_eyes_that_they_belong_to():
    points = answers(converted("facemesh"), goldens()["inputs_192"][:1])["points"][0]
    for iris, corners in ((468, (33, 133)), (473, (362, 263))):
        left, right = sorted(points[list(corners), 0])
        assert left < points[iris, 0] < right


def test_the_matte_is_that_of_the_models_own_runtime():
    alpha = answers(converted("selfie"), goldens()["inputs_144x256"])["alpha"]
    recorded = goldens()["selfie_segmentation_landscape.0"].reshape(3, 144, 256)
    assert alpha.shape == recorded.shape
    assert np.abs(alpha - recorded).max() <= MATTE


@pytest.mark.parametrize(("name", "side"), [("blazeface_short", 128), ("blazeface_full", 192)])
def test_the_best_box_is_where_the_landmarks_are(name, side):
    # Half the picture's size inside black bars: what comes back is in 0..1 of the whole letterbox.
    face = goldens()["inputs_192"][0]
    canvas = np.zeros((1, side, side, 3), np.uint8)
    step = 384 // side
    small = face[::step, ::step]
    corner = side // 4
    canvas[0, corner : corner + side // 2, corner : corner + side // 2] = small[: side // 2, : side // 2]
    answered = answers(converted(name), canvas)
    best = int(answered["scores"][0].argmax())
    assert answered["scores"][0, best] > 0.5
    x0, y0, x1, y1 = answered["boxes"][0, best]
    assert 0.25 < x0 < x1 < 0.75
    assert 0.25 < y0 < y1 < 0.75
    landmarks = goldens()["face_landmark_with_attention.0"][0].reshape(468, 3)
    eyes = np.stack([landmarks[[33, 133], :2].mean(axis=0), landmarks[[362, 263], :2].mean(axis=0)])
    expected = 0.25 + eyes / 192 * 0.5
    assert np.abs(answered["keypoints"][0, best, :2] - expected).max() < 0.03


@pytest.mark.parametrize("name", STARTER)
def test_a_batch_answers_bit_for_bit_what_its_pictures_answer_alone(name):
    content, images = converted(name), pictures(name, 5)
    together = answers(content, images)
    for number in range(len(images)):
        for output, values in answers(content, images[number : number + 1]).items():
            assert np.array_equal(values[0], together[output][number])


def test_same_padding_puts_what_is_left_over_at_the_end():
    assert explicit_pads(0, (192, 192), (3, 3), (2, 2), (1, 1)) == [0, 0, 1, 1]
    assert explicit_pads(0, (7, 7), (5, 5), (1, 1), (1, 1)) == [2, 2, 2, 2]
    assert explicit_pads(1, (7, 7), (5, 5), (1, 1), (1, 1)) == [0, 0, 0, 0]


def test_the_topology_is_a_surface_of_852_triangles_and_a_closed_rim():
    path = REPOSITORY / "facemesh" / "topology.json"
    if not path.is_file():
        pytest.skip("the topology is absent: run `make models`")
    document = json.loads(path.read_text())
    triangles = np.array(document["triangles"])
    assert triangles.shape == (852, 3)
    assert (triangles.min(), triangles.max()) == (0, 467)
    edges = {
        tuple(sorted(pair))
        for triangle in triangles.tolist()
        for pair in zip(triangle, triangle[1:] + triangle[:1], strict=True)
    }
    rim = document["oval"]
    assert len(set(rim)) == len(rim) == 36
    assert {tuple(sorted(pair)) for pair in zip(rim, rim[1:] + rim[:1], strict=True)} <= edges
