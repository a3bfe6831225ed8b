"""The services that run models, each killed once in the middle of its work: the job takes longer, and that is all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from masquerade.v1 import compositor_pb2, job_pb2
from tests.clips import make_clip
from tests.e2e.pictures import seen_by_camera, write_portrait
from tests.support.cluster import WORKERS, Cluster, cluster, until
from tests.support.starter_models import require_weights

FRAMES, SEGMENTS = 64, 8
TENANT = "anna"


def spec_of(portrait: str) -> job_pb2.JobSpec:
    """A face on the talker and a blurred background: all services have a part in it."""
    spec = job_pb2.JobSpec(asset_key=f"{TENANT}/assets/clip")
    identity = spec.identities.add(name="face1", portrait_keys=[portrait], portrait_names=["p.png"])
    identity.consent.method = job_pb2.CONSENT_METHOD_SELF
    spec.background.kind = compositor_pb2.BACKGROUND_KIND_BLUR
    spec.proof.segments = SEGMENTS
    spec.proof.plane_digests = True
    return spec


def observed(running: Cluster, job: str) -> int:
    """Segments that were looked at."""
    return len(list(running.folder.glob(f"objects/*/jobs/{job}/analyse/*/sha256-*")))


def is_rendering(running: Cluster, job: str, finished: int) -> bool:
    return len(running.rendered(job)) >= finished and running.rendering()


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_services_with_models_that_are_killed_in_the_middle_of_a_segment_cost_that_segment(
    tmp_path: Path,
) -> None:
    require_weights()
    clip = make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=(320, 240), draw=seen_by_camera)
    async with cluster(services=WORKERS, orchestrator__segments_at_once=2) as running:
        await running.store.put_file(f"{TENANT}/assets/clip", clip)
        # Each job has a portrait of its own: one that is given for a job is erased with it.
        portraits = [f"{TENANT}/assets/portrait{number}" for number in range(2)]
        for portrait in portraits:
            await running.store.put_file(portrait, write_portrait(tmp_path / "p.png"))
        door = running.at("o0")
        undisturbed = await door.report(await door.submit(spec_of(portraits[0]), "undisturbed", tenant=TENANT))
        assert undisturbed["frames_out"] == FRAMES

        job = await door.submit(spec_of(portraits[1]), "disturbed", tenant=TENANT)
        await until(lambda: observed(running, job) >= 1, seconds=30, what="it looks for faces")
        assert observed(running, job) < SEGMENTS
        running.kill("detector")
        await running.again("detector")
        for victim, finished in (("swapper", 1), ("segmenter", 4)):
            await until(partial(is_rendering, running, job, finished), seconds=30, what=f"{finished} are rendered")
            running.kill(victim)
            await running.again(victim)
        report = await door.report(job)
        assert report["plane_digest"] == undisturbed["plane_digest"]
        tries = running.counted("o0", "step failed, trying again")
        assert tries >= 2, "nobody was disturbed"
