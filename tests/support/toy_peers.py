"""The services that an orchestrator asks, as toys: they write down what they were asked and understand no picture."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from masquerade.timeline import ShardRef, Timeline, write_timeline
from masquerade.v1 import compositor_pb2, detector_pb2, ingest_pb2, segmenter_pb2, swapper_pb2
from services.common.store.folder import FolderStore
from services.orchestrator.convert import from_json, to_json
from services.orchestrator.engine.port import JsonObject

MODULES = {
    "ingest": ingest_pb2,
    "detector": detector_pb2,
    "swapper": swapper_pb2,
    "segmenter": segmenter_pb2,
    "compositor": compositor_pb2,
}
THREE_SECONDS = {"time_base": {"num": 1, "den": 1000}, "first_pts": 0, "end_pts": 3000, "frames": 90}
SEGMENTS = [{"number": 0, "frames": {"first": 0, "last": 48}}, {"number": 1, "frames": {"first": 48, "last": 90}}]


OFFERS: dict[str, Any] = {
    "detector.ListDetectors": {
        "detectors": [
            {"name": "blazeface", "is_default": True, "models": ["blazeface_short", "facemesh"]},
            {"name": "toy", "models": ["facemesh"]},
        ],
        "max_faces": 8,
    },
    "swapper.ListEngines": {
        "engines": [
            {
                "name": "mesh",
                "is_default": True,
                "options": {"colour": "auto"},
                "choices": [{"option": "colour", "values": ["auto", "source"]}],
            },
            {"name": "toy"},
        ]
    },
    "segmenter.ListModels": {
        "models": [
            {"name": "selfie", "is_default": True, "models": ["selfie"]},
            {"name": "toy", "models": ["toy_matting"], "missing": ["toy_matting"]},
        ]
    },
    "compositor.ListEncoders": {
        "encoders": [
            {
                "name": "h264",
                "is_default": True,
                "options": {"container": "mp4", "preset": "veryfast", "crf": "20"},
                "choices": [
                    {"option": "container", "values": ["mp4", "mkv"]},
                    {"option": "preset", "values": ["veryfast", "slow"]},
                ],
            }
        ],
        "blur": 0.02,
    },
}
"""What the toys say that they offer; a test may change its own."""


class ToyPeers:
    """Answers as the services would, with digests of what was asked; every request must be a message of its RPC."""

    store: FolderStore

    def __init__(self, *, people: int = 1, keep: Sequence[Any] = ()) -> None:
        self.asked: list[tuple[str, Any]] = []
        """All but the calls that only ask what there is."""

        self.offers: dict[str, Any] = copy.deepcopy(OFFERS)
        self._people, self._keep = people, list(keep)

    def of(self, rpc: str) -> list[Any]:
        return [request for name, request in self.asked if name == rpc]

    async def ask(self, rpc: str, request: JsonObject) -> JsonObject:
        service, _, method = rpc.partition(".")
        module = MODULES[service]
        from_json(request, getattr(module, f"{method}Request"))
        if rpc in self.offers:
            return to_json(from_json(self.offers[rpc], getattr(module, f"{method}Response")))
        self.asked.append((rpc, request))
        answer = getattr(self, f"_{method.lower()}")(request)
        if rpc == "detector.Link":
            answer["timeline"] = await self._stored_timeline(str(request["output_key"]))
        return to_json(from_json(answer, getattr(module, f"{method}Response")))

    async def _stored_timeline(self, key: str) -> JsonObject:
        """As Link leaves it: the index, and its shard below."""
        part = await self.store.put_bytes(f"{key}-parts/shard-000000", b"rows of " + key.encode())
        shard = ShardRef(0, 0, 90, part.key, part.digest, 0)
        timeline = Timeline(64, 48, 90, segments=(shard,), tracks=(), people=(), cuts=(), made_by=MADE_BY)
        stored = await self.store.put_bytes(key, write_timeline(timeline))
        return {"key": stored.key, "digest": stored.digest, "size_bytes": stored.bytes}

    def _index(self, request: Any) -> Any:
        return {"index": ref(request["index_key"]), "info": {**THREE_SECONDS, "notes": ["matrix assumed bt601"]}}

    def _probe(self, request: Any) -> Any:
        return {"info": THREE_SECONDS}

    def _plan(self, request: Any) -> Any:
        return {"segments": SEGMENTS, "keep": self._keep, "apply": [{"first": 0, "last": 9}] * bool(request["apply"])}

    def _enroll(self, request: Any) -> Any:
        quality = [{"name": portrait["name"], "warnings": ["a little dark"]} for portrait in request["portraits"]]
        return {"identity": ref(request["output_key"]), "quality": quality}

    def _analysesegment(self, request: Any) -> Any:
        return {"observations": ref(request["output_key"]), "frames": 45, "faces": 45}

    def _link(self, request: Any) -> Any:
        people = [{"person": number} for number in range(self._people)]
        return {"timeline": ref(request["output_key"]), "summary": {"frames": 90, "people": people}}

    def _rendersegment(self, request: Any) -> Any:
        return {"segment": ref(request["output_key"]), "frames": 45, "faces": 45}

    def _assemble(self, request: Any) -> Any:
        return {"file": ref(request["output_key"]), "frames": 90, "offset_num": 0, "offset_den": 1}

    def _verify(self, request: Any) -> Any:
        return {"frames": 90, "gates": ["frames", "pts"]}

    def _finalise(self, request: Any) -> Any:
        json.loads(request["record_json"])
        return {"artifact": ref(request["output_key"]), "record": ref(request["output_key"] + ".json")}


MADE_BY = {"runtime": "any", "analysis": "3", "facemesh": "aa"}


def ref(key: str) -> dict[str, Any]:
    return {"key": key, "digest": hashlib.sha256(key.encode()).hexdigest(), "size_bytes": 1}


class StoringPeers(ToyPeers):
    """The same, and every answer lies in the store; a test may hold a service up, or let it fail."""

    def __init__(self, store: FolderStore, *, people: int = 1) -> None:
        super().__init__(people=people)
        self.store = store
        self.cancelled: list[str] = []
        self._held: dict[str, asyncio.Event] = {}
        self._reached: dict[str, asyncio.Event] = {}
        self._failures: dict[str, Exception] = {}

    def hold(self, rpc: str) -> asyncio.Event:
        """From now on calls of a method wait; answers what rings when one does."""
        self._held[rpc] = asyncio.Event()
        self._reached[rpc] = asyncio.Event()
        return self._reached[rpc]

    def let_go(self, rpc: str) -> None:
        """Calls of a method wait no more."""
        self._held.pop(rpc).set()

    def fail(self, rpc: str, error: Exception | None) -> None:
        """From now on calls of a method fail with this; None mends it."""
        self._failures.pop(rpc, None)
        if error is not None:
            self._failures[rpc] = error

    async def ask(self, rpc: str, request: JsonObject) -> JsonObject:
        if rpc in self._held:
            self._reached[rpc].set()
            try:
                await self._held[rpc].wait()
            except asyncio.CancelledError:
                self.cancelled.append(rpc)
                raise
        if rpc in self._failures:
            raise self._failures[rpc]
        answer = await super().ask(rpc, request)
        key = str(request.get("output_key") or "")
        if key and rpc != "detector.Link":
            for each in (key, f"{key}.json") if rpc == "compositor.Finalise" else (key,):
                await self.store.put_bytes(each, each.encode())
        return answer
