"""Mesh space: one flat layout for every face."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from masquerade import facemesh
from tests.support.faces import require_topology

SIZE = 64


def test_the_layout_is_symmetric_and_frontal() -> None:
    layout = facemesh.mesh_space()
    assert layout.shape == (facemesh.MESH_POINTS, 2)
    assert layout.min() > 0
    assert layout.max() < 1
    for right, left in zip(facemesh.RIGHT_EYE, facemesh.LEFT_EYE, strict=True):
        assert layout[right, 0] + layout[left, 0] == pytest.approx(1, abs=1e-4)
        assert layout[right, 1] == pytest.approx(layout[left, 1], abs=1e-4)
    # The forehead's top and the chin lie on the middle line, one above the other.
    assert layout[[10, 152], 0] == pytest.approx([0.5, 0.5], abs=1e-4)
    assert layout[10, 1] < layout[1, 1] < layout[152, 1]


def test_no_triangle_of_the_closed_mesh_is_flipped_or_empty() -> None:
    require_topology()
    triangles = facemesh.topology().closed()
    a, b, c = (facemesh.mesh_space()[triangles[:, i]].astype(np.float64) for i in range(3))
    areas = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    assert areas.min() > 1e-6


def test_eyes_and_mouth_are_open_in_the_topology_and_shut_in_the_closed_mesh() -> None:
    require_topology()

    def rims(triangles: np.ndarray) -> int:
        edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
        _, count = np.unique(edges, axis=0, return_counts=True)
        assert count.max() == 2
        return int((count == 1).sum())

    topology = facemesh.topology()
    assert rims(topology.triangles) == len(topology.oval) + 16 + 16 + 20
    assert rims(topology.closed()) == len(topology.oval)


def test_a_face_that_lies_as_mesh_space_does_is_unwrapped_onto_itself() -> None:
    require_topology()
    picture = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    inside = facemesh.texel_grid(SIZE).inside
    unwrapped = facemesh.unwrap(picture, facemesh.mesh_space() * SIZE, SIZE)
    assert np.abs(unwrapped[inside].astype(int) - picture[inside]).max() <= 1


def test_unwrapping_undoes_any_affine_move_of_the_face() -> None:
    require_topology()
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    picture = np.dstack([ramp, ramp.T, np.full_like(ramp, 7)])
    move = np.array([[90.0, 30.0], [-30.0, 110.0]])
    points = facemesh.mesh_space() @ move.T + [70, 80]
    grid = facemesh.texel_grid(SIZE)
    unwrapped = facemesh.unwrap(picture, points, SIZE).astype(float)
    texels = (np.dstack(np.meshgrid(np.arange(SIZE), np.arange(SIZE))) + 0.5) / SIZE
    expected = texels @ move.T + [70, 80] - 0.5
    # Landmarks are float32, and the picture is rounded to whole levels.
    assert np.abs(unwrapped[..., :2] - expected)[grid.inside].max() < 0.6


def test_texels_beyond_the_rim_look_at_the_nearest_texel_of_the_face() -> None:
    require_topology()
    grid = facemesh.texel_grid(SIZE)
    assert not grid.inside[0, 0]
    assert grid.inside[SIZE // 2, SIZE // 2]
    assert grid.weights.sum(axis=-1) == pytest.approx(1, abs=1e-5)
    assert grid.weights.min() >= -1e-6


def test_a_topology_that_names_a_landmark_beyond_the_mesh_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "topology.json"
    path.write_text(json.dumps({"triangles": [[0, 1, 468]], "oval": [0, 1, 2]}))
    with pytest.raises(ValueError, match="does not have"):
        facemesh.load_topology(path)
