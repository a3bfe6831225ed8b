"""The chain: each entry's digest is made of its own content and of the digest before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

GENESIS: Final = "0" * 64
"""What stands before the first entry."""

DONE, REFUSED, FAILED = "done", "refused", "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, as it is told to the log.

    No name of a person, no path, no statement and nothing of a face belongs into it: ids and digests alone. The log
    outlives what it speaks of.
    """

    tenant: str
    actor: str
    action: str
    """`job.created`, `job.state`, `identity.deleted`, `consent.revoked`, `call.refused`, ..."""

    object: str
    """Id of what it was done to."""

    decision: str = DONE
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values."""


@dataclass(frozen=True, slots=True)
class Link:
    """An entry in its place in the chain."""

    sequence: int
    time_ms: int
    entry: Entry
    previous: str
    digest: str


def link(entry: Entry, *, sequence: int, time_ms: int, previous: str) -> Link:
    """Put an entry behind the one whose digest is `previous`."""
    return Link(sequence, time_ms, entry, previous, digest_of(entry, sequence, time_ms, previous))


def digest_of(entry: Entry, sequence: int, time_ms: int, previous: str) -> str:
    """SHA-256 over the digest before and the entry's canonical JSON, 64 hexadecimal digits."""
    content = {
        "sequence": sequence,
        "time_ms": time_ms,
        "tenant": entry.tenant,
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "decision": entry.decision,
        "details": entry.details,
    }
    return hashlib.sha256(previous.encode() + b"\n" + canonical(content).encode()).hexdigest()


def canonical(value: object) -> str:
    """JSON in the one spelling that is digested and stored."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
