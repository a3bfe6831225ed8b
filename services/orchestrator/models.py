"""Which models had a part in a job: for the record and the report."""

from __future__ import annotations

from collections.abc import Mapping

from masquerade.timeline import read_timeline
from services.common.store.objects import ObjectStore
from services.orchestrator.spec import JobSpec

_MATTING: Mapping[str, str] = {"studio": "isnet_general_use"}
_MATTING_ELSE = "selfie"

_NO_MODELS = frozenset({"runtime", "analysis", "link"})


async def looked_with(store: ObjectStore, timeline: str) -> dict[str, str]:
    """Digests of the models that made a Timeline, as it says itself; `timeline` is its key."""
    made_by = read_timeline(await store.get_bytes(timeline)).made_by
    return {name: digest for name, digest in made_by.items() if name not in _NO_MODELS}


def painted_with(spec: JobSpec, known: Mapping[str, str], *, profile: str) -> dict[str, str]:
    """Digests of the models that made the frames.

    A swap engine that runs a model of the same name has it in the list; the mesh runs none.

    Args:
        spec: of the job.
        known: digests of all models that can be served, by name.
        profile: what the services choose where the job names nothing.
    """
    names = []
    if spec.background.kind != "keep":
        names.append(spec.engines.segmenter or _MATTING.get(profile, _MATTING_ELSE))
    if spec.identities and spec.engines.swapper:
        names.append(spec.engines.swapper)
    return {name: known[name] for name in names if name in known}
