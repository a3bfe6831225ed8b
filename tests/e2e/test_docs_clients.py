"""Every program that docs/clients.md and the README show to callers runs, in order, as it stands there."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.clips import make_clip
from tests.e2e.pictures import seen_by_camera, write_portrait
from tests.e2e.ports import free_ports
from tests.support.certificates import Papers
from tests.support.node_packages import is_current
from tests.support.pages import ROOT, Block, Reader, blocks_of, put_certificates
from tests.support.starter_models import require_weights

FRAMES = 24
FIVE_MINUTES = "## Five minutes with a server"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    if not is_current():
        pytest.skip("the Node packages are not installed: make node")
    require_weights()
    make_clip(tmp_path / "talk.mp4", frames=FRAMES, gop=8, bf=2, audio="aac", draw=seen_by_camera)
    write_portrait(tmp_path / "anna.png")
    papers = Papers(tmp_path / "papers")
    put_certificates(tmp_path, papers.certificate, papers.key, papers.ca_file)
    return Reader(tmp_path, first_port=free_ports(8) + 1)


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def follow(reader: Reader, blocks: list[Block]) -> str:
    """Run them all; gives what they printed."""
    up, *others = blocks
    assert up.starts_server
    with reader.server(up.text):
        return "".join(reader.run(block) for block in others)


def test_every_block_of_the_page_about_clients_runs(reader: Reader) -> None:
    blocks = blocks_of(ROOT / "docs/clients.md")
    assert {block.language for block in blocks} == {"sh", "python", "js"}
    said = follow(reader, blocks)
    results = ("shell", "python", "async", "rerendered", "node", "node-rerendered", "curl")
    assert {name: frames(reader.folder / f"{name}.mp4") for name in results} == dict.fromkeys(results, FRAMES)
    assert "spec.priority" in said
    assert "JOB_NOT_FOUND" in said
    assert "REQUEST_ID_REUSED" in said
    assert (reader.folder / "python.json").stat().st_size > 0


def test_the_five_minutes_of_the_readme_lead_to_two_results(reader: Reader) -> None:
    blocks = blocks_of(ROOT / "README.md")
    head = (ROOT / "README.md").read_text()
    line = head[: head.index(FIVE_MINUTES)].count("\n")
    end = head.find("\n## ", head.index(FIVE_MINUTES))
    until = head[:end].count("\n")
    follow(reader, [block for block in blocks if line < block.line <= until])
    assert frames(reader.folder / "out.mp4") == FRAMES
    assert frames(reader.folder / "node.mp4") == FRAMES
