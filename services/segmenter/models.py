"""The matting models that are known, and what each takes."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import UnknownModel


@dataclass(frozen=True, slots=True)
class MattingModel:
    """One model: RGB uint8 in under `image`, `alpha` in [0, 1] out, both of this size.

    Attributes:
        name: its folder in model_repository/.
        width: of its frames, pixels.
        height: of its frames, pixels.
    """

    name: str
    width: int
    height: int


_MODELS = {model.name: model for model in (MattingModel(name="selfie", width=256, height=144),)}


def matting_model(name: str) -> MattingModel:
    """The model of that name.

    Raises:
        UnknownModel: there is none.
    """
    if name not in _MODELS:
        raise UnknownModel(model=name, known=", ".join(sorted(_MODELS)))
    return _MODELS[name]


def matting_models() -> list[MattingModel]:
    """All models, by name."""
    return [_MODELS[name] for name in sorted(_MODELS)]
