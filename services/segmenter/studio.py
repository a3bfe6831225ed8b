"""Matting models that the rembg library runs, opened when a job first wants one: the library is large."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from services.common.arrays import Alpha8, Rgb
from services.common.inference.local import LocalModels

ISNET: Final = "isnet_general_use"

_IMPORTING = threading.Lock()


def open_isnet(models: LocalModels) -> Callable[[Rgb], Alpha8]:
    """IS-Net over the weights in the repository. Blocks; call it in the pool.

    Raises:
        ModelMissing, ModelDigestMismatch, LicenceForbidden, ModelContractMismatch: the model cannot be used.
    """
    session = models.session(ISNET)
    with _uncompiled():
        from services.segmenter.isnet import IsNetSession, matte
    return partial(matte, IsNetSession(ISNET, session))


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Import without compiling: rembg brings a closed-form matting that takes half a minute to compile where its
    cache cannot be written, as in a read-only container, and that is not used here."""
    with _IMPORTING:
        config: Any = importlib.import_module("numba.core.config")
        before = config.DISABLE_JIT
        config.DISABLE_JIT = 1
        try:
            yield
        finally:
            config.DISABLE_JIT = before
