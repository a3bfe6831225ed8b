"""The command on a link: the same result as on the file, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import av

from tests.clips import make_clip
from tests.e2e import command
from tests.support.links_server import leads_to, serves, web
from tests.support.starter_models import require_weights


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_link_is_transformed_like_its_file_and_what_was_fetched_is_gone(tmp_path):
    require_weights()
    clip = make_clip(tmp_path / "clip.mp4", frames=50, size=(320, 180))
    data, out = tmp_path / "data", tmp_path / "out.mp4"
    with web() as site:
        site.answers |= {"/clip.mp4": serves(clip.read_bytes()), "/go": leads_to("/clip.mp4")}
        arguments = ("transform", site.link("/go"), "--keep", "0:1", "-o", out)
        ended = command.run(*arguments, data=data, MASQUERADE_INGEST__LINK_NETWORKS="127.0.0.1/32")
    assert ended.code == 0, ended.err
    assert 0 < frames(out) < 50
    assert list((data / "links").iterdir()) == []
    assert not ended.left_processes


def test_a_private_link_is_refused_in_one_line_and_nobody_is_asked(tmp_path):
    out = tmp_path / "out.mp4"
    with web() as site:
        ended = command.run("transform", site.link("/a.mp4"), "--keep", "0:1", "-o", out, data=tmp_path / "data")
        assert site.asked == []
    assert ended.code == 2
    assert ended.err.startswith("LINK_REFUSED: ")
    assert ended.err.count("\n") == 1
    assert not out.exists()
    assert not ended.left_processes
