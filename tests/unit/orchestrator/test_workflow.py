"""The job's way through the stages, with peers that only write down what they were asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import CorruptMedia
from services.common.store.folder import FolderStore
from services.orchestrator import convert
from services.orchestrator.engine.port import Body, JsonObject
from services.orchestrator.failures import Failure, WorkFailed
from services.orchestrator.peers import Environment
from services.orchestrator.progress import Board
from services.orchestrator.workflow import TRANSFORM, Workflow, WorkflowSettings
from tests.support.toy_ledger import ToyLedger
from tests.support.toy_peers import SEGMENTS, ToyPeers

MODELS = {"facemesh": "aa", "selfie": "bb", "never_asked": "cc"}
ENVIRONMENT = Environment("0.1.0", "onnxruntime-cpu-fp32", MODELS, "av 18", "x86-64-v3")


class ToySteps:
    """Steps that are done at once and remembered nowhere."""

    job, tenant = "job_a", "anna"

    def __init__(self, bodies: Callable[[], dict[str, Body]]) -> None:
        self._bodies = bodies

    async def call(self, name: str, step: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        answer = await step()
        json.dumps(answer)
        return answer

    async def each(
        self,
        stage: str,
        body: str,
        items: Sequence[JsonObject],
        *,
        ended: Callable[[JsonObject], object] | None = None,
    ) -> list[JsonObject]:
        answers = []
        for item in items:
            answers.append(await self._bodies()[body](self, item))
            if ended is not None:
                ended(answers[-1])
        return answers

    async def tell(self, event: JsonObject) -> None:
        json.dumps(event)


@pytest.fixture
async def store(tmp_path: Path) -> FolderStore:
    """With a video, a portrait and a picture in it."""
    folder = FolderStore(tmp_path)
    for name in ("video", "portrait", "picture"):
        await folder.put_bytes(f"anna/assets/{name}", name.encode())
    return folder


FACE = {
    "name": "face1",
    "portrait_keys": ["anna/assets/portrait"],
    "portrait_names": ["p.jpg"],
    "consent": {"method": 1},
}
SPEC: dict[str, Any] = {"asset_key": "anna/assets/video", "identities": [FACE]}


async def run(
    store: FolderStore,
    peers: ToyPeers,
    spec: dict[str, Any],
    *,
    environment: Environment = ENVIRONMENT,
    ledger: ToyLedger | None = None,
    places: dict[str, Path] | None = None,
    body: str = TRANSFORM,
) -> Any:
    workflow = Workflow(
        peers=peers,
        store=store,
        environment=lambda: environment,
        board=Board(),
        settings=WorkflowSettings(),
        ledger=ledger or ToyLedger(),
        places=places,
    )
    peers.store = store
    steps = ToySteps(lambda: dict(workflow.bodies()))
    return await workflow.bodies()[body](steps, spec)


async def test_a_face_job_asks_each_service_in_order_and_reports(store: FolderStore) -> None:
    peers = ToyPeers()
    result = await run(store, peers, SPEC)
    assert [rpc for rpc, _ in peers.asked] == [
        "ingest.Index",
        "ingest.Plan",
        "detector.Enroll",
        "detector.AnalyseSegment",
        "detector.AnalyseSegment",
        "detector.Link",
        "compositor.RenderSegment",
        "compositor.RenderSegment",
        "compositor.Assemble",
        "compositor.Verify",
        "compositor.Finalise",
    ]
    report = json.loads(await store.get_bytes(result["report"]["key"]))
    assert (report["frames_in"], report["frames_out"], report["max_pts_error_ms"]) == (90, 90, 0)
    assert report["models"] == {"facemesh": "aa"}, "models that had no part in it are not named"
    assert report["peak_pss_mb"] > 10
    assert report["source_digest"] == hashlib.sha256(b"video").hexdigest()
    assert "p.jpg: a little dark" in report["warnings"]
    assert {"index", "analyse", "link", "render", "assemble", "verify", "finalise"} <= set(report["stages"])


async def test_without_a_face_nothing_is_analysed(store: FolderStore) -> None:
    peers = ToyPeers()
    await run(store, peers, {"asset_key": "anna/assets/video", "background": {"kind": 4}})
    assert not peers.of("detector.AnalyseSegment")
    assert all(request["timeline_key"] == "" for request in peers.of("compositor.RenderSegment"))
    record = json.loads(peers.of("compositor.Finalise")[0]["record_json"])
    assert record["models"] == {"selfie": "bb"}


async def test_a_segment_of_which_nothing_is_kept_is_not_rendered(store: FolderStore) -> None:
    peers = ToyPeers(keep=[{"first": 50, "last": 60}, {"first": 70, "last": 90}])
    await run(store, peers, {**SPEC, "keep": [{"start_ms": 2000, "end_ms": 2400}, {"start_ms": 2800}]})
    (rendered,) = peers.of("compositor.RenderSegment")
    assert rendered["segment"] == SEGMENTS[1]
    assert len(peers.of("detector.AnalyseSegment")) == 2, "analysis sees every frame, whatever is kept"


async def test_the_same_job_asks_for_the_same_keys_again(store: FolderStore) -> None:
    first, second = ToyPeers(), ToyPeers()
    await run(store, first, SPEC)
    await run(store, second, SPEC)
    assert first.asked == second.asked


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"background": {"kind": 5, "rgb": 255}}, {"analyse", "link"}),
        ({"provenance": {"label": "made"}}, {"analyse", "link"}),
        ({"apply": [{"start_ms": 0, "end_ms": 100}]}, {"analyse", "link"}),
        ({"encode": {"crf": 30}}, {"analyse", "link"}),
        ({"engines": {"swapper": "toy"}}, {"analyse", "link"}),
        ({"engines": {"detector": "toy"}}, set()),
    ],
    ids=["background", "label", "apply", "encode", "swap engine", "detector"],
)
async def test_what_changes_an_output_changes_its_key_and_no_other(
    store: FolderStore, changes: dict[str, Any], same: set[str]
) -> None:
    before, after = ToyPeers(), ToyPeers()
    await run(store, before, SPEC)
    await run(store, after, {**SPEC, **changes})
    assert keys(before, "compositor.RenderSegment").isdisjoint(keys(after, "compositor.RenderSegment"))
    for stage, rpc in (("analyse", "detector.AnalyseSegment"), ("link", "detector.Link")):
        assert (keys(before, rpc) == keys(after, rpc)) is (stage in same)


async def test_another_runtime_or_another_model_makes_other_keys(store: FolderStore) -> None:
    before = ToyPeers()
    await run(store, before, SPEC)
    others: list[dict[str, Any]] = [{"runtime": "triton-fp16"}, {"models": {"facemesh": "bb"}}, {"profile": "studio"}]
    for other in (replace(ENVIRONMENT, **change) for change in others):
        after = ToyPeers()
        await run(store, after, SPEC, environment=other)
        for rpc in ("detector.AnalyseSegment", "compositor.RenderSegment", "detector.Enroll"):
            assert keys(before, rpc).isdisjoint(keys(after, rpc))


def is_default(peers: ToyPeers, rpc: str, name: str) -> None:
    """From now on a service takes this one where nothing is said."""
    for each in next(value for value in peers.offers[rpc].values() if isinstance(value, list)):
        each["is_default"] = each["name"] == name


DEFAULTS: dict[str, tuple[Callable[[ToyPeers], object], set[str]]] = {
    "detector": (
        lambda peers: is_default(peers, "detector.ListDetectors", "toy"),
        {"detector.Enroll", "detector.AnalyseSegment", "detector.Link", "compositor.RenderSegment"},
    ),
    "most faces": (
        lambda peers: peers.offers["detector.ListDetectors"].update(max_faces=3),
        {"detector.AnalyseSegment", "detector.Link", "compositor.RenderSegment"},
    ),
    "swap engine": (lambda peers: is_default(peers, "swapper.ListEngines", "toy"), {"compositor.RenderSegment"}),
    "option": (
        lambda peers: peers.offers["swapper.ListEngines"]["engines"][0].update(options={"colour": "source"}),
        {"compositor.RenderSegment"},
    ),
    "matting model": (lambda peers: is_default(peers, "segmenter.ListModels", "toy"), {"compositor.RenderSegment"}),
}
"""Settings of services, and the calls whose keys they are part of."""


@pytest.mark.parametrize("name", DEFAULTS)
async def test_what_a_service_does_where_nothing_is_said_is_part_of_its_keys(store: FolderStore, name: str) -> None:
    before, after = ToyPeers(), ToyPeers()
    change, changed = DEFAULTS[name]
    change(after)
    spec = {**SPEC, "background": {"kind": 4}}
    await run(store, before, spec)
    await run(store, after, spec)
    for rpc in ("detector.Enroll", "detector.AnalyseSegment", "detector.Link", "compositor.RenderSegment"):
        assert keys(before, rpc).isdisjoint(keys(after, rpc)) is (rpc in changed), rpc


async def test_services_are_told_what_they_would_do_and_the_report_says_it(store: FolderStore) -> None:
    peers = ToyPeers()
    peers.offers["detector.ListDetectors"]["max_faces"] = 3
    result = await run(store, peers, {**SPEC, "background": {"kind": 4}})
    assert {(each["detector"], each["max_faces"]) for each in peers.of("detector.AnalyseSegment")} == {("blazeface", 3)}
    (rendered, _) = peers.of("compositor.RenderSegment")
    assert (rendered["engine"], rendered["engine_options"]) == ("mesh", {"colour": "auto"})
    assert rendered["background"]["model"] == "selfie"
    settings = json.loads(await store.get_bytes(result["report"]["key"]))["settings"]
    assert settings["engines"] == {
        "detector": "blazeface",
        "max_faces": 3,
        "swapper": "mesh",
        "swapper_options": {"colour": "auto"},
        "segmenter": "selfie",
    }
    assert settings["encode"] == {"container": "mp4", "preset": "veryfast", "crf": 20}
    assert settings["background"]["blur"] == 0.02


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, {"colour": "source"}),
        ({"swapper_options": {"colour": "auto"}}, {"colour": "auto"}),
        ({"swapper": "toy"}, {}),
    ],
    ids=["unasked", "asked otherwise", "an engine without the option"],
)
async def test_a_drawn_face_keeps_its_colours_unless_asked(
    store: FolderStore, asked: dict[str, Any], told: dict[str, str]
) -> None:
    await store.put_bytes("anna/assets/landmarks", b"\0" * 4)
    drawn = {**FACE, "landmarks_key": "anna/assets/landmarks", "consent": {"method": 3}}
    peers = ToyPeers()
    await run(store, peers, {**SPEC, "identities": [drawn], "engines": asked})
    assert {tuple(each["engine_options"].items()) for each in peers.of("compositor.RenderSegment")} == {
        tuple(told.items())
    }


async def test_an_engine_that_is_not_there_fails_the_job_before_anything_is_looked_at(store: FolderStore) -> None:
    peers = ToyPeers()
    with pytest.raises(WorkFailed) as caught:
        await run(store, peers, {**SPEC, "engines": {"swapper": "none such"}})
    assert caught.value.failure.reason == "UNKNOWN_ENGINE"
    assert not peers.asked


async def test_a_failure_names_the_frame_and_keeps_it_in_the_database(store: FolderStore) -> None:
    class Broken(ToyPeers):
        def _rendersegment(self, request: Any) -> Any:
            raise CorruptMedia(path="v.mp4", at="frame 12", detail="it is damaged")

    with pytest.raises(WorkFailed) as caught:
        await run(store, Broken(), SPEC)
    kept = Failure.from_json(json.loads(json.dumps(caught.value.failure.to_json())))
    assert (kept.frame, kept) == (12, caught.value.failure)
    assert convert.failure(kept).frame == 12
    assert not convert.failure(Failure.of(CorruptMedia(path="v.mp4", at="byte 12"))).HasField("frame")


async def test_a_failure_between_two_steps_names_the_stage(store: FolderStore) -> None:
    with pytest.raises(WorkFailed) as caught:
        await run(store, ToyPeers(), {**SPEC, "profile": "studio"})
    assert caught.value.failure.stage == "analysing"


async def test_a_typed_error_of_a_peer_is_the_jobs_failure(store: FolderStore) -> None:
    class Broken(ToyPeers):
        def _link(self, request: Any) -> Any:
            raise CorruptMedia(path="v.mp4")

    with pytest.raises(WorkFailed) as caught:
        await run(store, Broken(), SPEC)
    assert caught.value.failure.reason == "CORRUPT_MEDIA"


async def test_a_job_gets_the_profile_that_it_names_or_none(store: FolderStore) -> None:
    studio = replace(ENVIRONMENT, profile="studio")
    result = await run(store, ToyPeers(), {**SPEC, "profile": "studio"}, environment=studio)
    report = json.loads(await store.get_bytes(result["report"]["key"]))
    assert report["settings"]["profile"] == "studio"
    with pytest.raises(WorkFailed) as caught:
        await run(store, ToyPeers(), {**SPEC, "profile": "studio"})
    assert caught.value.failure.reason == "UNKNOWN_PROFILE"


async def test_an_input_that_is_gone_is_named(store: FolderStore) -> None:
    with pytest.raises(WorkFailed) as caught:
        await run(store, ToyPeers(), {"asset_key": "anna/assets/gone"})
    assert caught.value.failure.reason == "OBJECT_MISSING"


async def test_the_record_says_who_agreed_and_holds_no_time(store: FolderStore) -> None:
    peers = ToyPeers()
    await run(store, peers, SPEC)
    record = json.loads(peers.of("compositor.Finalise")[0]["record_json"])
    assert record["identities"][0]["consent"]["method"] == "self"
    assert record["source"]["sha256"] == hashlib.sha256(b"video").hexdigest()
    assert record["models"] == {"facemesh": "aa"}


def keys(peers: ToyPeers, rpc: str) -> set[str]:
    return {request["output_key"] for request in peers.of(rpc)}
