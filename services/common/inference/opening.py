"""Which runtime stands behind the inference door: chosen by the settings."""

from __future__ import annotations

from services.common.errors import InvalidSetting
from services.common.inference.runtime import Runtime, RuntimeSettings
from services.common.pool import Pool


def open_runtime(settings: RuntimeSettings, *, pool: Pool) -> Runtime:
    """The runtime that the settings name. Nothing is loaded and nothing connected before the first call.

    Args:
        settings: where models run.
        pool: where in-process models run.

    Raises:
        InvalidSetting: the runtime is unknown, or Triton has no target.
    """
    # Each runtime's library is imported where it is chosen: an image carries the one that it uses.
    if settings.runtime == "onnxruntime":
        from services.common.inference.onnx_runtime import OnnxRuntime

        return OnnxRuntime(settings.model_repository, pool=pool, licence_policy=settings.policy)
    if settings.runtime == "triton":
        if not settings.triton:
            raise InvalidSetting(setting="triton", problem="is empty, and the runtime is triton")
        from services.common.inference.triton import TritonRuntime

        return TritonRuntime(settings)
    raise InvalidSetting(setting="runtime", value=settings.runtime, problem="is neither onnxruntime nor triton")
