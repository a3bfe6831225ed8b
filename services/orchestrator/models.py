"""Which models had a part in a job: for the record and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from masquerade.timeline import read_timeline
from services.common.store.objects import ObjectStore

_NO_MODELS = frozenset({"runtime", "analysis", "link"})


async def looked_with(store: ObjectStore, timeline: str) -> dict[str, str]:
    """Digests of the models that made a Timeline, as it says itself; `timeline` is its key."""
    made_by = read_timeline(await store.get_bytes(timeline)).made_by
    return {name: digest for name, digest in made_by.items() if name not in _NO_MODELS}


def painted_with(chosen: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    """Digests of the models that made the frames.

    Args:
        chosen: what the job got, see `choosing`.
        known: digests of all models that can be served, by name.
    """
    return {name: known[name] for name in chosen["models"] if name in known}
