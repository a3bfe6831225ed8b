"""The requests of a job, with their keys: what each service is asked, and under which name it writes its answer.

A key is made of the digests of all that the answer depends on. So an order that is given twice finds the first answer,
and one that differs in anything that matters never does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.orchestrator.engine.port import JsonObject
from services.orchestrator.keys import stage_key
from services.orchestrator.spec import Background, JobIdentity, JobSpec, TimeRange

_BACKGROUND_NUMBERS = {"keep": 1, "image": 2, "video": 3, "blur": 4, "colour": 5}
PORTRAIT_PHOTO, PORTRAIT_DRAWN = 1, 2


@dataclass(frozen=True, slots=True)
class Orders:
    """Requests of one job. Dicts are messages in the JSON of `messages.py`."""

    spec: JobSpec
    tenant: str
    job: str
    inputs: Mapping[str, Any]
    """What the step `inspect` answered: digests of the inputs by key, the environment, and what was chosen."""

    plane_digests: bool = False

    def index(self) -> JsonObject:
        """For ingest.Index of the source."""
        return self._index(self.spec.asset_key)

    def background_index(self) -> JsonObject:
        """For ingest.Index of a background video."""
        assert self.spec.background.asset_key is not None
        return self._index(self.spec.background.asset_key)

    def _index(self, asset_key: str) -> JsonObject:
        # The library that decodes is the one that encodes.
        environment = self._environment
        parts = {"asset": self._digest(asset_key), "software": environment["software"], "av": environment["encoder"]}
        return {"asset_key": asset_key, "index_key": self._key("index", parts)}

    def plan(self, index: Any, segment_frames: int) -> JsonObject:
        """For ingest.Plan."""
        spec = self.spec
        return {
            "index_key": index["index"]["key"],
            "segment_frames": spec.segment_frames or segment_frames,
            "segments": spec.proof.segments,
            "keep": [_time_range(each) for each in spec.keep],
            "apply": [_time_range(each) for each in spec.apply],
        }

    def enrol(self, identity: JobIdentity, landmarks: list[float]) -> JsonObject:
        """For detector.Enroll; `landmarks` are those of a drawn face, else empty."""
        kind = PORTRAIT_DRAWN if identity.is_drawn else PORTRAIT_PHOTO
        parts = {
            "portraits": [self._digest(key) for key in identity.portrait_keys],
            "landmarks": self._digest(identity.landmarks_key) if identity.landmarks_key else "",
            "kind": kind,
            "detector": self._detector,
            **self._models(),
        }
        names = identity.portrait_names or tuple(key.rpartition("/")[2] for key in identity.portrait_keys)
        portraits: list[Any] = [
            {"asset_key": key, "name": name, "kind": kind, "landmarks": list(landmarks)}
            for key, name in zip(identity.portrait_keys, names, strict=True)
        ]
        return {
            "portraits": portraits,
            "output_key": self._key("identity", parts),
            "detector": self._detector,
        }

    def analyse(self, index: Any, segment: Any) -> JsonObject:
        """For detector.AnalyseSegment."""
        parts = {
            "asset": self._digest(self.spec.asset_key),
            "index": index["index"]["digest"],
            "frames": segment["frames"],
            "detector": self._detector,
            "max_faces": self._chosen["max_faces"],
            "decoder": self._environment["encoder"],
            **self._models(),
        }
        return {
            "asset_key": self.spec.asset_key,
            "index_key": index["index"]["key"],
            "segment": segment,
            "output_key": self._key("analyse", parts, segment=segment["number"]),
            "detector": self._detector,
            "max_faces": self._chosen["max_faces"],
        }

    def link(self, index: Any, plan: Any, observed: Sequence[Any]) -> JsonObject:
        """For detector.Link."""
        observations = [answer["observations"] for answer in observed]
        parts = {
            "index": index["index"]["digest"],
            "observations": [each["digest"] for each in observations],
            "detector": self._detector,
            **self._models(),
        }
        return {
            "index_key": index["index"]["key"],
            "segments": plan["segments"],
            "observations": observations,
            "output_key": self._key("link", parts),
            "detector": self._detector,
        }

    def render(
        self, index: Any, plan: Any, segment: Any, *, timeline: Any, cast: Any, backdrop: Any
    ) -> JsonObject | None:
        """For compositor.RenderSegment; None for a segment of which nothing is kept."""
        keep = _clip(plan["keep"], segment["frames"])
        if plan["keep"] and not keep:
            return None
        spec = self.spec
        request: dict[str, Any] = {
            "asset_key": spec.asset_key,
            "index_key": index["index"]["key"],
            "segment": segment,
            "keep": keep,
            # All of them, not those inside the segment: to a segment an empty list would mean everywhere.
            "apply": plan["apply"],
            "timeline_key": timeline["timeline"]["key"] if cast else "",
            "cast": cast,
            "engine": self._chosen.get("swapper", ""),
            "engine_options": dict(self._chosen.get("swapper_options", {})),
            "background": self._background(spec.background, backdrop),
            "encode": dict(spec.encode),
            "label": spec.label,
            "plane_digests": self.plane_digests,
            "dump_planes": spec.proof.dump_planes,
        }
        depends = {name: value for name, value in request.items() if not name.endswith("_key")}
        depends["background"] = {name: v for name, v in request["background"].items() if not name.endswith("_key")}
        depends["cast"] = [[entry["person"], entry["identity_digest"]] for entry in cast]
        parts = {
            **depends,
            "asset": self._digest(spec.asset_key),
            "index": index["index"]["digest"],
            "timeline": timeline["timeline"]["digest"] if cast else "",
            "backdrop": self._digest(spec.background.asset_key) if spec.background.asset_key else "",
            "encoder": self._environment["encoder"],
            **self._models(),
        }
        key = self._key("render", parts, segment=segment["number"], suffix=".mkv")
        return {**request, "output_key": key}

    def kept_frames(self, index: Any, plan: Any) -> int:
        """Frames of the output."""
        if not plan["keep"]:
            return int(index["info"]["frames"])
        return sum(each["last"] - each["first"] for each in plan["keep"])

    def assemble(self, index: Any, plan: Any, rendered: Sequence[Any]) -> JsonObject:
        """For compositor.Assemble."""
        segments = [answer["segment"] for answer in rendered]
        metadata = self._metadata()
        parts = {
            "asset": self._digest(self.spec.asset_key),
            "index": index["index"]["digest"],
            "segments": [each["digest"] for each in segments],
            "keep": plan["keep"],
            "encode": dict(self.spec.encode),
            "metadata": metadata,
            "encoder": self._environment["encoder"],
            "software": self._environment["software"],
        }
        return {
            "asset_key": self.spec.asset_key,
            "index_key": index["index"]["key"],
            "segments": segments,
            "keep": plan["keep"],
            "encode": dict(self.spec.encode),
            "output_key": self._key("assemble", parts, suffix=f".{self.spec.container}"),
            "metadata": metadata,
        }

    def verify(self, index: Any, plan: Any, assembled: Any) -> JsonObject:
        """For compositor.Verify."""
        return {
            "file_key": assembled["file"]["key"],
            "asset_key": self.spec.asset_key,
            "index_key": index["index"]["key"],
            "keep": plan["keep"],
            "offset_num": assembled["offset_num"],
            "offset_den": assembled["offset_den"],
        }

    def finalise(self, assembled: Any, record: Mapping[str, Any]) -> JsonObject:
        """For compositor.Finalise."""
        parts = {"file": assembled["file"]["digest"], "record": record}
        return {
            "file_key": assembled["file"]["key"],
            "output_key": self._key("finalise", parts, suffix=f".{self.spec.container}"),
            "record_json": json.dumps(record, sort_keys=True),
        }

    def report_key(self, text: str) -> str:
        """Where a report lies: under its own digest, because no two attempts took equally long."""
        return self._key("report", text, suffix=".json")

    def _background(self, background: Background, backdrop: Any) -> dict[str, Any]:
        return {
            "kind": _BACKGROUND_NUMBERS[background.kind],
            "asset_key": background.asset_key or "",
            "index_key": backdrop["index"]["key"] if backdrop else "",
            "rgb": background.rgb or 0,
            "blur": background.blur or 0.0,
            "model": self._chosen.get("segmenter", ""),
        }

    def _metadata(self) -> dict[str, str]:
        if not self.spec.metadata:
            return {}
        done = ", ".join(what_was_done(self.spec)) or "nothing changed"
        return {"comment": f"Made with Masquerade {self._environment['software']}: {done}."}

    @property
    def _environment(self) -> Mapping[str, Any]:
        environment: Mapping[str, Any] = self.inputs["environment"]
        return environment

    @property
    def _chosen(self) -> Mapping[str, Any]:
        chosen: Mapping[str, Any] = self.inputs["chosen"]
        return chosen

    @property
    def _detector(self) -> str:
        return str(self._chosen["detector"])

    def _models(self) -> dict[str, Any]:
        named = ("software", "runtime", "models", "machine", "profile", "policy")
        return {name: self._environment[name] for name in named}

    def _digest(self, key: str) -> str:
        return str(self.inputs["digests"][key])

    def _key(self, stage: str, parts: object, *, segment: int = 0, suffix: str = "") -> str:
        return stage_key(tenant=self.tenant, job=self.job, stage=stage, parts=parts, segment=segment, suffix=suffix)


def what_was_done(spec: JobSpec) -> list[str]:
    """The effects of a job in words, for metadata and record."""
    done = []
    if spec.identities:
        drawn = all(identity.is_drawn for identity in spec.identities)
        done.append("faces replaced by drawn ones" if drawn else "faces replaced")
    if spec.background.kind != "keep":
        done.append("background blurred" if spec.background.kind == "blur" else "background replaced")
    if spec.keep:
        done.append("cut")
    if spec.label:
        done.append("labelled")
    return done


def _time_range(each: TimeRange) -> dict[str, Any]:
    return {"start_ms": each.start_ms} | ({} if each.end_ms is None else {"end_ms": each.end_ms})


def _clip(ranges: Sequence[Any], frames: Any) -> list[Any]:
    clipped = [
        {"first": max(each["first"], frames["first"]), "last": min(each["last"], frames["last"])} for each in ranges
    ]
    return [each for each in clipped if each["first"] < each["last"]]
