"""What a job may ask for: one row for everything that is refused, and all of it at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.common import errors
from services.common.errors import InvalidSpec, MasqueradeError
from services.common.inference.models import Licence, Model
from services.common.store.folder import FolderStore
from services.orchestrator.checks import Facts, Looks, check, violations
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.offers import Catalogue
from services.orchestrator.spec import survey
from tests.support.toy_peers import ToyPeers

FACE = {"name": "face1", "identity_id": "idn_a"}
ASSET, PICTURE, CLIP = "anna/assets/video", "anna/assets/picture", "anna/assets/clip"
FACED: dict[str, Any] = {"asset_key": ASSET, "identities": [FACE]}
KEEP, IMAGE, VIDEO, BLUR, COLOUR = 1, 2, 3, 4, 5


class Ingest(ToyPeers):
    """A video of 3 s, which says that it lasts 2.5 s; pictures are pictures by their names."""

    def _probe(self, request: Any) -> Any:
        if "picture" in request["asset_key"]:
            raise errors.NotAVideo(path="000-abc", found="PNG picture")
        if "text" in request["asset_key"]:
            raise errors.NotAVideo(path="000-abc", found="text")
        return {"info": {"time_base": {"num": 1, "den": 1000}, "first_pts": 100, "end_pts": 2600, "frames": 75}}

    def _index(self, request: Any) -> Any:
        index = {"key": request["index_key"], "digest": "00"}
        info = {"time_base": {"num": 1, "den": 1000}, "first_pts": 100, "end_pts": 3100, "frames": 90}
        return {"index": index, "info": info}


def card(name: str, *, is_free: bool) -> Model:
    """A model with this licence."""
    licence = Licence("Free" if is_free else "Research Only", is_free, "")
    return Model(name, "studio", "", licence, "", (), None, None, 1, (), (), ())


CARDS = {
    name: card(name, is_free=is_free)
    for name, is_free in (("facemesh", True), ("blazeface_short", True), ("guarded", False), ("selfie", True))
}


def facts_of(folder: Path, peers: ToyPeers, **changes: Any) -> Facts:
    facts = Facts(
        cards=CARDS,
        profile="starter",
        policy="commercial",
        offers=Catalogue(peers.ask).get,
        looks=Looks(peers.ask, FolderStore(folder)),
        places=["archive", "shelf"],
    )
    return replace(facts, **changes)


async def found(folder: Path, spec: dict[str, Any], *, peers: ToyPeers | None = None, **changes: Any) -> dict[str, str]:
    """Everything that is wrong with a spec, by its field; a field is named once."""
    peers = peers or Ingest()
    listed = await violations(survey(spec)[0], tenant="anna", facts=facts_of(folder, peers, **changes))
    assert len({each.field for each in listed}) == len(listed)
    return {each.field.removeprefix("spec."): each.problem for each in listed}


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("an unknown profile", {"profile": "vapour"}, "profile", "UNKNOWN_PROFILE: .*starter"),
    ("a profile that is not served", {"profile": "studio"}, "profile", "studio is not served here, but starter"),
    ("an unknown detector", {**FACED, "engines": {"detector": "x"}}, "engines.detector", "UNKNOWN_MODEL: .*blazeface"),
    ("an unknown swap engine", {**FACED, "engines": {"swapper": "x"}}, "engines.swapper", "UNKNOWN_ENGINE: .*mesh"),
    (
        "an unknown matting model",
        {"background": {"kind": BLUR}, "engines": {"segmenter": "x"}},
        "engines.segmenter",
        "UNKNOWN_MODEL: .*selfie",
    ),
    ("an unused model of no known name", {"engines": {"segmenter": "x"}}, "engines.segmenter", "UNKNOWN_MODEL"),
    (
        "an unknown option",
        {**FACED, "engines": {"swapper_options": {"shade": "1"}}},
        "engines.swapper_options.shade",
        "mesh has no such option; it has colour",
    ),
    (
        "an option's unknown value",
        {**FACED, "engines": {"swapper_options": {"colour": "pink"}}},
        "engines.swapper_options.colour",
        "'pink' is none of auto, source",
    ),
    ("an unknown preset", {"encode": {"preset": "hasty"}}, "encode.preset", "'hasty' is none of veryfast, slow"),
    ("a cast without faces", {"cast": [{"identity": "a"}]}, "identities", "NO_IDENTITY: cast ask"),
    ("an engine without faces", {"engines": {"swapper": "mesh"}}, "identities", "NO_IDENTITY: engines.swapper ask"),
    (
        "two faces for one person",
        {**FACED, "cast": [{"identity": "face1", "person": 1}, {"identity": "face1", "person": 1}]},
        "cast[1].person",
        "person 1 is given a face twice",
    ),
    (
        "two faces for everybody",
        {**FACED, "cast": [{"identity": "face1"}, {"identity": "face1"}]},
        "cast[1].person",
        "everybody",
    ),
    (
        "a video for a picture",
        {"background": {"kind": IMAGE, "asset_key": CLIP}},
        "background.asset_id",
        "JPEG, PNG or WebP file .it is a video.",
    ),
    (
        "a picture for a video",
        {"background": {"kind": VIDEO, "asset_key": PICTURE}},
        "background.asset_id",
        "is to be a video .PNG picture.",
    ),
    (
        "a text for a picture",
        {"background": {"kind": IMAGE, "asset_key": "anna/assets/text"}},
        "background.asset_id",
        "NOT_A_VIDEO: .*text",
    ),
    ("a colour for a blur", {"background": {"kind": BLUR, "rgb": 7}}, "background.rgb", "the background is blur"),
    ("a blur for a colour", {"background": {"kind": COLOUR, "rgb": 7, "blur": 0.1}}, "background.blur", "colour"),
    ("a blur for nothing", {"background": {"kind": KEEP, "blur": 0.1}}, "background.blur", "keep"),
    (
        "an effect where nothing stays",
        {"keep": [{"start_ms": 0, "end_ms": 100}], "apply": [{"start_ms": 100, "end_ms": 200}]},
        "apply",
        "nothing in common with keep",
    ),
    (
        "a range far outside",
        {"asset_key": ASSET, "keep": [{"start_ms": 0, "end_ms": 9}, {"start_ms": 9000}]},
        "keep[1]",
        "RANGE_OUTSIDE_VIDEO: .*9:.*3.000 s",
    ),
    ("a range at the very end", {"asset_key": ASSET, "apply": [{"start_ms": 3000}]}, "apply[0]", "RANGE_OUTSIDE"),
    ("a range of a picture", {"asset_key": PICTURE, "keep": [{"start_ms": 0}]}, "asset_id", "is to be a video"),
    ("an unknown place", {"publish": [{"place": "x"}]}, "publish[0].place", "'x' is none of archive, shelf"),
    ("a path for a place", {"publish": [{"place": "../shelf"}]}, "publish[0].place", "is none of"),
    (
        "weights that are not there",
        {"background": {"kind": BLUR}, "engines": {"segmenter": "toy"}},
        "engines.segmenter",
        "MODEL_MISSING: .*toy_matting",
    ),
    ("segments by number and by length", {"proof": {"segments": 2}, "segment_frames": 8}, "proof.segments", "either"),
]


@pytest.mark.parametrize(("spec", "field", "said"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
async def test_what_is_wrong_is_named_by_its_field(tmp_path: Path, spec: dict[str, Any], field: str, said: str) -> None:
    named = await found(tmp_path, spec)
    assert set(named) == {field}
    assert re.search(said, named[field]), named[field]


RIGHT: dict[str, dict[str, Any]] = {
    "a face": {**FACED, "engines": {"detector": "toy", "swapper": "mesh", "swapper_options": {"colour": "source"}}},
    "a cast": {**FACED, "cast": [{"identity": "face1"}, {"identity": "face1", "person": 1}]},
    "a picture": {"background": {"kind": IMAGE, "asset_key": PICTURE}},
    "a video": {"background": {"kind": VIDEO, "asset_key": CLIP}},
    "a blur": {"background": {"kind": BLUR, "blur": 0.1}, "engines": {"segmenter": "selfie"}},
    "ranges": {"asset_key": ASSET, "keep": [{"start_ms": 0, "end_ms": 100}], "apply": [{"start_ms": 99}]},
    "more than the headers say": {"asset_key": ASSET, "keep": [{"start_ms": 2900}]},
    "places": {"publish": [{"place": "archive"}, {"place": "shelf", "name": "a.mp4"}]},
    "the served profile": {"profile": "starter", "licence_policy": "research"},
    "a preset": {"encode": {"preset": "slow"}},
}


@pytest.mark.parametrize("name", RIGHT)
async def test_what_is_right_is_let_through(tmp_path: Path, name: str) -> None:
    assert await found(tmp_path, RIGHT[name]) == {}


def guard(peers: ToyPeers) -> None:
    """The default detector needs a model that is for research alone."""
    peers.offers["detector.ListDetectors"]["detectors"][0]["models"] = ["facemesh", "guarded"]


@pytest.mark.parametrize(
    ("served", "wanted", "is_refused"),
    [
        ("commercial", "", True),
        ("commercial", "research", True),
        ("research", "", False),
        ("research", "research", False),
        ("research", "commercial", True),
    ],
)
async def test_the_stricter_policy_holds_and_the_model_and_its_licence_are_named(
    tmp_path: Path, served: str, wanted: str, is_refused: bool
) -> None:
    peers = Ingest()
    guard(peers)
    named = await found(tmp_path, {**FACED, "licence_policy": wanted}, peers=peers, policy=served)
    assert set(named) == ({"engines.detector"} if is_refused else set())
    if is_refused:
        assert named["engines.detector"].startswith("LICENCE_FORBIDDEN: guarded")
        assert "Research Only" in named["engines.detector"]
        assert await found(tmp_path, {**FACED, "engines": {"detector": "toy"}}, peers=peers, policy=served) == {}


async def test_a_service_that_is_not_there_is_named_where_the_job_needs_it(tmp_path: Path) -> None:
    class Alone(Ingest):
        async def ask(self, rpc: str, request: JsonObject) -> JsonObject:
            if rpc.startswith(("swapper.", "segmenter.")):
                raise errors.Unavailable(peer=rpc)
            return await super().ask(rpc, request)

    named = await found(tmp_path, {**FACED, "background": {"kind": BLUR}}, peers=Alone())
    assert {field: problem.partition(":")[0] for field, problem in named.items()} == {
        "engines.swapper": "UNAVAILABLE",
        "engines.segmenter": "UNAVAILABLE",
    }
    assert await found(tmp_path, {"asset_key": ASSET}, peers=Alone()) == {}


async def test_a_service_that_is_away_for_a_moment_is_known_by_what_it_said(tmp_path: Path) -> None:
    peers = Ingest()
    catalogue = Catalogue(peers.ask, keep_s=0)
    before = await catalogue.get("swapper")
    assert before is not None
    assert before.names == "mesh, toy"

    async def away(rpc: str, request: JsonObject) -> JsonObject:
        raise errors.Unavailable(peer="swapper")

    peers.ask = away  # type: ignore[method-assign]
    catalogue._ask = away
    assert await catalogue.get("swapper") == before


def failing(error: Exception) -> Callable[[Any], Any]:
    def fail(_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "error", [errors.Unavailable(peer="ingest"), errors.ObjectMissing(key="x"), errors.Internal(what="x")]
)
async def test_what_could_not_be_found_out_is_left_to_the_job(tmp_path: Path, error: MasqueradeError) -> None:
    peers = Ingest()
    peers._probe = failing(error)  # type: ignore[method-assign]
    behind = {"kind": IMAGE, "asset_key": CLIP}
    assert (
        await found(tmp_path, {"asset_key": ASSET, "keep": [{"start_ms": 9000}], "background": behind}, peers=peers)
        == {}
    )


async def test_a_look_has_a_limit_and_is_not_taken_twice(tmp_path: Path) -> None:
    class Slow(Ingest):
        async def ask(self, rpc: str, request: JsonObject) -> JsonObject:
            if rpc == "ingest.Probe" and "slow" in str(request["asset_key"]):
                await asyncio.sleep(30)
            return await super().ask(rpc, request)

    peers = Slow()
    looks = Looks(peers.ask, FolderStore(tmp_path), look_s=0.05)
    assert await looks.look("anna/assets/slow") is None
    assert await looks.look(ASSET) == await looks.look(ASSET)
    assert len(peers.of("ingest.Probe")) == 1
    for _ in range(2):
        counted = await looks.count(ASSET, tenant="anna")
        assert counted is not None
        assert counted.duration_ms == 3000
    (asked,) = peers.of("ingest.Index")
    assert asked["index_key"].startswith("anna/jobs/check_"), "swept as nobody's if it is left"


async def test_ten_violations_are_ten(tmp_path: Path) -> None:
    spec = {
        "asset_key": ASSET,
        "profile": "vapour",
        "keep": [{"start_ms": 9000}],
        "engines": {"swapper": "x", "segmenter": "toy", "detector": "y"},
        "cast": [{"identity": "a"}, {"identity": "a"}],
        "background": {"kind": IMAGE, "asset_key": CLIP, "blur": 0.1},
        "encode": {"preset": "hasty"},
        "publish": [{"place": "x"}],
    }
    with pytest.raises(InvalidSpec) as caught:
        await check(survey(spec)[0], tenant="anna", facts=facts_of(tmp_path, Ingest()))
    assert {each.field.removeprefix("spec.") for each in caught.value.violations} == {
        "profile",
        "keep[0]",
        "engines.swapper",
        "engines.segmenter",
        "engines.detector",
        "cast[1].person",
        "identities",
        "background.asset_id",
        "background.blur",
        "encode.preset",
        "publish[0].place",
    }
