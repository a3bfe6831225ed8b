"""The matting models that are known, and what each takes. A new one is a line here, and a file if a library runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from services.common.arrays import Alpha8, Rgb
from services.common.errors import UnknownModel
from services.common.inference.local import LocalModels
from services.segmenter.studio import ISNET, open_isnet

Net: TypeAlias = Callable[[Rgb], Alpha8]
"""One frame at the model's size to its matte; blocks, for the pool."""


@dataclass(frozen=True, slots=True)
class MattingModel:
    """One model: RGB uint8 frames in, mattes out, both of this size.

    Attributes:
        name: its folder in model_repository/.
        width: of its frames, pixels.
        height: of its frames, pixels.
        open: makes the net where a library runs it; None where the inference door does, which then takes `image` and
            answers `alpha` in [0, 1].
    """

    name: str
    width: int
    height: int
    open: Callable[[LocalModels], Net] | None = None


_MODELS = {
    model.name: model
    for model in (
        MattingModel(name="selfie", width=256, height=144),
        MattingModel(name=ISNET, width=1024, height=1024, open=open_isnet),
    )
}
_OF_PROFILE = {"studio": ISNET}
_ELSE = "selfie"


def profile_model(profile: str) -> str:
    """The model that a profile uses where a job names none."""
    return _OF_PROFILE.get(profile, _ELSE)


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
