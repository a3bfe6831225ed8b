"""TFLite in, ONNX out: the same bytes each time."""

from __future__ import annotations

from dataclasses import dataclass

from services.standalone.models import answers, attention, operators
from services.standalone.models.tflite_reader import read_tflite
from services.standalone.models.translation import Translation

_TRANSLATORS = operators.TRANSLATORS | attention.TRANSLATORS


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model becomes a graph that takes pictures and gives answers."""

    scale: float
    """Factor from uint8 to what the network was trained on."""

    shift: float
    """Added after the factor."""

    answer: answers.Answer


RECIPES: dict[str, Recipe] = {
    # A letterbox's black bars are pixel 0, so they arrive at -1 as in training.
    "blazeface_short": Recipe(1 / 127.5, -1.0, answers.short_range_faces),
    "blazeface_full": Recipe(1 / 127.5, -1.0, answers.full_range_faces),
    "face_mesh": Recipe(1 / 255, 0.0, answers.face_mesh),
    "person_matte": Recipe(1 / 255, 0.0, answers.person_matte),
}
"""By the name that a model.toml gives as its converter."""


def convert(content: bytes, *, recipe: Recipe, raw: bool = False) -> bytes:
    """Translate a TFLite file.

    Args:
        content: the file.
        recipe: its first and last nodes.
        raw: give the network's own outputs, flat, in place of the recipe's answers.

    Returns:
        An ONNX file, opset 17, its batch symbolic. The same input gives the same bytes.

    Raises:
        NotImplementedError: the file has an operator or an option that our models do not have.
    """
    translation = Translation(read_tflite(content))
    image = answers.pictures(translation, scale=recipe.scale, shift=recipe.shift)
    for operator in translation.source.operators:
        if operator.kind not in _TRANSLATORS:
            raise NotImplementedError(f"operator {operator.kind}")
        _TRANSLATORS[operator.kind](translation, operator)
    outputs = answers.raw(translation) if raw else recipe.answer(translation)
    model = translation.graph.finish("main", [image], outputs)
    return model.SerializeToString(deterministic=True)
