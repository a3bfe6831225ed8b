"""What a job says of itself at its end: the record that stays with the output, and the report for who ran it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from services.common.store.objects import ObjectStore
from services.orchestrator.engine.port import JsonObject
from services.orchestrator.orders import what_was_done
from services.orchestrator.spec import JobSpec

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the stages answered."""

    spec: JobSpec
    inputs: Mapping[str, Any]
    index: Any
    plan: Any
    timeline: Any
    cast: Sequence[Any]
    identities: Mapping[str, Any]
    rendered: Sequence[Any]
    assembled: Any
    verified: Any
    finalised: Any
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    peak_pss_mb: float
    models: Mapping[str, str]
    """Digests of the models that had a part in it, by name."""


def record(
    spec: JobSpec, inputs: Mapping[str, Any], *, models: Mapping[str, str], notes: Sequence[str], assembled: Any
) -> dict[str, Any]:
    """What was done to the source, to stay beside the output: nothing in it depends on when or how often it ran."""
    environment = inputs["environment"]
    return {
        "format": FORMAT,
        "software": {"name": "masquerade", "version": environment["software"]},
        "source": {"sha256": inputs["digests"][spec.asset_key]},
        "done": what_was_done(spec),
        "identities": [
            {
                "name": identity.name,
                "kind": "drawn" if identity.is_drawn else "photo",
                "portraits": [inputs["digests"][key] for key in identity.portrait_keys],
                "consent": {"method": identity.consent.method, "statement": identity.consent.statement},
            }
            for identity in spec.identities
        ],
        "settings": settings(spec, inputs),
        "models": dict(models),
        "runtime": environment["runtime"],
        "notes": [*notes, *assembled["notes"]],
    }


def settings(spec: JobSpec, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a job by name, defaults included: those of the services as they were at its start."""
    chosen, environment = inputs["chosen"], inputs["environment"]
    return {
        "profile": environment["profile"],
        "container": spec.container,
        "encode": dict(chosen["encode"]),
        "background": {
            "kind": spec.background.kind,
            "rgb": None if spec.background.rgb is None else f"#{spec.background.rgb:06x}",
            "blur": chosen["blur"] if spec.background.kind == "blur" else None,
        },
        "keep_ms": [[each.start_ms, each.end_ms] for each in spec.keep],
        "apply_ms": [[each.start_ms, each.end_ms] for each in spec.apply],
        "cast": [[rule.identity, rule.person] for rule in spec.cast],
        "engines": {
            "detector": chosen.get("detector"),
            "max_faces": chosen.get("max_faces"),
            "swapper": chosen.get("swapper"),
            "swapper_options": dict(chosen.get("swapper_options", {})),
            "segmenter": chosen.get("segmenter"),
        },
        "label": spec.label,
        "licence_policy": spec.licence_policy or environment["policy"],
        "segment_frames": spec.segment_frames,
    }


async def write(found: Findings, store: ObjectStore, key_of: Callable[[str], str]) -> JsonObject:
    """Make the report and store it under the key that it gets by its text; answers the object's reference."""
    digest = await _plane_digest(found, store)
    text = json.dumps(_report(found, plane_digest=digest), indent=2, sort_keys=True)
    stored = await store.put_bytes(key_of(text), text.encode())
    return {"key": stored.key, "digest": stored.digest, "size_bytes": stored.bytes}


def _report(found: Findings, *, plane_digest: str | None) -> dict[str, Any]:
    info, environment = found.index["info"], found.inputs["environment"]
    kept = found.plan["keep"]
    frames_in = sum(each["last"] - each["first"] for each in kept) if kept else info["frames"]
    summary = found.timeline["summary"] if found.timeline else {"tracks": [], "people": [], "cuts": [], "notes": []}
    qualities = [quality for answer in found.identities.values() for quality in answer["quality"]]
    warnings = [*found.notes, *info["notes"], *found.assembled["notes"], *summary["notes"]]
    warnings += [f"{quality['name']}: {warning}" for quality in qualities for warning in quality["warnings"]]
    return {
        "format": FORMAT,
        "frames_in": frames_in,
        "frames_out": found.verified["frames"],
        "frames_source": info["frames"],
        "kept_frames": [[each["first"], each["last"]] for each in kept],
        "max_pts_error_ms": found.verified["max_pts_error_ms"],
        "time_offset": {"num": found.assembled["offset_num"], "den": found.assembled["offset_den"]},
        "gates": found.verified["gates"],
        "tracks": summary["tracks"],
        "people": summary["people"],
        "cuts": summary["cuts"],
        "cast": found.cast,
        "faces_covered": sum(answer["faces"] for answer in found.rendered),
        "portraits": qualities,
        "timeline_of": None if found.spec.rerender is None else found.spec.rerender.of,
        "segments": len(found.plan["segments"]),
        "segments_reused": sum(bool(answer["reused"]) for answer in found.rendered),
        "stages": dict(found.seconds),
        "runtime": environment["runtime"],
        "encoder": environment["encoder"],
        "machine": environment["machine"],
        "software": environment["software"],
        "settings": settings(found.spec, found.inputs),
        "models": dict(found.models),
        "peak_pss_mb": found.peak_pss_mb,
        "source_digest": found.inputs["digests"][found.spec.asset_key],
        "output_digest": found.finalised["artifact"]["digest"],
        "padded_from": _padded_from(info),
        "media": info,
        "filled_pts": found.index["filled_pts"],
        "moved_pts": found.index["moved_pts"],
        "plane_digest": plane_digest,
        "warnings": warnings,
        "signer": found.finalised["signer"],
    }


def _padded_from(info: Mapping[str, Any]) -> list[int] | None:
    width, height = info["padded_from_width"], info["padded_from_height"]
    return [width, height] if width or height else None


async def _plane_digest(found: Findings, store: ObjectStore) -> str | None:
    """Running digest over the digests of all frames in order, whichever way the video was cut; None if not asked."""
    written = [
        answer["plane_digests"]["key"] for answer in found.rendered if answer.get("plane_digests", {}).get("key")
    ]
    if not written or len(written) != len(found.rendered):
        return None
    running = xxhash.xxh3_128()
    for key in written:
        running.update(await store.get_bytes(key))
    return running.hexdigest()


def floats(data: bytes) -> list[float]:
    """Little-endian float32, as landmarks are stored."""
    return [float(value) for value in np.frombuffer(data, dtype="<f4")]
