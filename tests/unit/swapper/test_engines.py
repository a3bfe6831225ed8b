"""The registry: engines by name, and engines of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest

from masquerade.identity import Identity
from services.common.errors import InvalidSpec, UnknownEngine
from services.swapper.engines import FaceCrop, Options, Patch, Source
from services.swapper.registry import complete, engine, engines, register


class Dummy:
    """Paints nothing."""

    name = "dummy"
    description = "Paints nothing."
    options: Options = MappingProxyType({"strength": "1"})
    choices: Mapping[str, Sequence[str]] = MappingProxyType({})
    models: Sequence[str] = ()
    nbytes = 0

    def prepare(self, identity: Identity, options: Options) -> Source:
        return self

    def swap(self, faces: Sequence[FaceCrop], source: Source, options: Options) -> list[Patch | None]:
        return [None for _ in faces]


def test_mesh_is_there_without_being_registered() -> None:
    assert engine("mesh").name == "mesh"
    assert engine("mesh") is engine("mesh")


def test_an_unknown_engine_names_those_that_there_are() -> None:
    with pytest.raises(UnknownEngine, match="mesh"):
        engine("mosh")


def test_an_engine_of_ones_own_is_found_until_it_is_taken_away() -> None:
    take_away = register(Dummy())
    try:
        assert isinstance(engine("dummy"), Dummy)
        assert [one.name for one in engines()] == ["dummy", "mesh"]
        with pytest.raises(ValueError, match="already"):
            register(Dummy())
    finally:
        take_away()
    with pytest.raises(UnknownEngine):
        engine("dummy")


def test_options_are_completed_and_unknown_ones_refused() -> None:
    mesh = engine("mesh")
    assert complete(mesh, {"occlusion": "off"}) == {"colour": "auto", "occlusion": "off"}
    with pytest.raises(InvalidSpec, match="occlusoin"):
        complete(mesh, {"occlusoin": "off"})
