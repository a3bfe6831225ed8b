"""Names of things: ids of jobs, keys of objects, digests of what they are made from.

A key is a pure function of everything that goes into the object, so that a finished object can be found again after
a crash and is never mistaken for another one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

STAGE_REVISIONS: Mapping[str, int] = {
    "index": 1,
    "plan": 1,
    "analyse": 1,
    "link": 1,
    "render": 2,
    "assemble": 1,
    "finalise": 1,
    "report": 1,
    "identity": 2,
}
"""Raise a stage's revision when it gives another output for the same input: old objects are then not taken for new."""

_DIGEST_CHARACTERS = 32


def json_digest(value: object) -> str:
    """SHA-256 of a JSON value in one canonical spelling, 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def job_id(*, tenant: str, request: str) -> str:
    """`job_` and 26 base32 characters, the same for the same request of the same tenant."""
    mac = hmac.new(tenant.encode(), request.encode(), hashlib.sha256).digest()
    return "job_" + base64.b32encode(mac).decode().lower()[:26]


def job_prefix(*, tenant: str, job: str) -> str:
    """Where all that belongs to one job lies, and is deleted with it."""
    return f"{tenant}/jobs/{job}/"


def stage_key(*, tenant: str, job: str, stage: str, parts: object, segment: int = 0, suffix: str = "") -> str:
    """Key of a stage's output.

    Args:
        tenant: whose it is.
        job: id of the job.
        stage: a name in `STAGE_REVISIONS`.
        parts: everything that decides the content: digests of inputs, settings, models, runtime, encoder build.
        segment: number of the segment, 0 for a stage of the whole video.
        suffix: of the file, with its dot.
    """
    digest = json_digest({"stage": stage, "revision": STAGE_REVISIONS[stage], "segment": segment, "parts": parts})
    return f"{job_prefix(tenant=tenant, job=job)}{stage}/{segment:06d}-{digest[:_DIGEST_CHARACTERS]}{suffix}"
