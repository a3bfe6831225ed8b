"""The swap engines that there are. A new one is one module with a class as in `engines.py` and one line in `BUILT_IN`;
tests register their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from services.common.errors import InvalidSpec, UnknownEngine
from services.swapper.engines import Options, SwapEngine
from services.swapper.mesh.engine import MeshEngine

BUILT_IN: dict[str, Callable[[], SwapEngine]] = {
    "mesh": MeshEngine,
}

_registered: dict[str, SwapEngine] = {}


def register(engine: SwapEngine) -> Callable[[], None]:
    """Add an engine of one's own, under its own name.

    Returns:
        A call that takes it away again.

    Raises:
        ValueError: the name is taken.
    """
    if engine.name in BUILT_IN or engine.name in _registered:
        raise ValueError(f"there is an engine {engine.name!r} already")
    _registered[engine.name] = engine
    return partial(_registered.__delitem__, engine.name)


def engine(name: str) -> SwapEngine:
    """The engine of that name.

    Raises:
        UnknownEngine: there is none.
    """
    if name not in _registered:
        if name not in BUILT_IN:
            raise UnknownEngine(engine=name, known=", ".join(sorted({*BUILT_IN, *_registered})))
        _registered[name] = BUILT_IN[name]()
    return _registered[name]


def engines() -> list[SwapEngine]:
    """All engines, by name."""
    return [engine(name) for name in sorted({*BUILT_IN, *_registered})]


def complete(engine: SwapEngine, asked: Options) -> dict[str, str]:
    """The asked options over the engine's defaults.

    Raises:
        InvalidSpec: the engine has no such option.
    """
    for name in asked:
        if name not in engine.options:
            known = ", ".join(engine.options) or "none"
            raise InvalidSpec(
                field=f"engine_options.{name}", problem=f"{engine.name} has no such option; it has {known}"
            )
    return {**engine.options, **asked}
