"""What of a portrait may be laid over another face."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from masquerade import facemesh
from masquerade.identity import Identity
from services.swapper.mesh.skin import lips_gate
from services.swapper.mesh.texture import SIZES, SourceTexture, prepare_texture
from tests.support.faces import face_points, portrait, require_topology

SKIN = (205, 160, 135)


@pytest.fixture(autouse=True, scope="module")
def _topology() -> None:
    require_topology()


def with_fringe(identity: Identity) -> Identity:
    """The same portrait with dark hair from the rim half down to the brows."""
    picture = identity.pictures[0]
    rgb = picture.rgb.copy()
    top, brows = picture.points[10, 1], picture.points[list(facemesh.FOREHEAD[13:]), 1].min()
    rgb[: int(top + 0.5 * (brows - top))] = (40, 30, 20)
    return replace(identity, pictures=(replace(picture, rgb=rgb),))


def gate(texture: SourceTexture) -> NDArray[np.uint8]:
    return texture.levels[0][..., 3]


def test_a_bare_face_is_used_to_its_rim() -> None:
    used = gate(prepare_texture(portrait(kind="photo", colour=SKIN)))
    inside = cv2.erode(facemesh.texel_grid(len(used)).inside.astype(np.uint8), np.ones((5, 5))) > 0
    # The mouth of this portrait stands as wide open as in mesh space: its lips are given up.
    inside[int(0.6 * len(used)) :] = False
    assert (used[inside] > 200).mean() > 0.99


def test_a_fringe_is_not_carried_along() -> None:
    used = gate(prepare_texture(with_fringe(portrait(kind="photo", colour=SKIN))))
    size = len(used)
    x, y = (facemesh.mesh_space()[10] * size).astype(int)
    assert used[y + 3 : y + size // 12, x].max() == 0
    nose = (facemesh.mesh_space()[1] * size).astype(int)
    assert used[nose[1], nose[0]] == 255


def test_a_drawing_is_used_with_its_fringe() -> None:
    used = gate(prepare_texture(with_fringe(portrait(kind="drawn"))))
    assert (used[facemesh.texel_grid(len(used)).inside] == 255).all()


def test_lips_of_a_laughing_source_are_given_up_and_closed_ones_are_kept() -> None:
    size = 256
    # In mesh space the mouth stands open; between the corner of its hole and the outer lip there is lip.
    lip = facemesh.mesh_space()[[13, 0]].mean(axis=0) * size
    x, y = lip.astype(int)
    assert lips_gate(0.0, size).min() == 255
    assert lips_gate(0.5, size)[y, x] < 80
    assert lips_gate(0.5, size)[10, size // 2] == 255


@pytest.mark.parametrize(("face_width_px", "size"), [(100, SIZES[0]), (300, SIZES[1]), (1500, SIZES[1])])
def test_a_texture_is_as_large_as_the_portrait_deserves(face_width_px: int, size: int) -> None:
    texture = prepare_texture(portrait(face_width_px))
    assert texture.levels[0].shape == (size, size, 4)
    assert texture.nbytes == sum(level.nbytes for level in texture.levels)


def test_a_small_face_reads_a_small_level() -> None:
    texture = prepare_texture(portrait(400))
    assert len(texture.level_for(30)) < len(texture.level_for(150)) < len(texture.level_for(380))


def test_landmarks_are_laid_where_mesh_space_has_them() -> None:
    identity = portrait(240)
    picture = identity.pictures[0]
    rgb = picture.rgb.copy()
    x, y = picture.points[205, :2]
    cv2.circle(rgb, (int(x), int(y)), 5, (255, 255, 255), -1)
    texture = prepare_texture(replace(identity, pictures=(replace(picture, rgb=rgb),))).levels[0]
    u, v = facemesh.mesh_space()[205] * len(texture)
    assert texture[int(v), int(u), 0] > 240
    assert face_points(240).shape == (478, 3)
