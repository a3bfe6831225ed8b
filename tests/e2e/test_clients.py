"""Programs of other languages call a running `masquerade up`: a Node client and buf, each by the contract alone."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.rpc import error_details_pb2

from services.standalone import talker
from tests.clips import make_clip
from tests.support.node_packages import is_current, node_program

ROOT = Path(__file__).resolve().parents[2]
BUF = ROOT / "tests/node/node_modules/.bin/buf"
START_S, CALL_S, STOP_S = 45, 30, 15


@dataclass(frozen=True, slots=True)
class Up:
    """A running mesh, its addresses by service, and the key of a clip in its store."""

    targets: dict[str, str]
    asset_key: str
    metrics: str


def free_run_of_ports(count: int) -> int:
    """First of several neighbouring ports that are free now."""
    for first in range(42051, 60000, 16):
        with_sockets = [socket.socket() for _ in range(count)]
        try:
            for number, one in enumerate(with_sockets):
                one.bind(("127.0.0.1", first + number))
            return first
        except OSError:
            continue
        finally:
            for one in with_sockets:
                one.close()
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    if not is_current():
        pytest.skip("the Node packages are not installed: make node")
    folder = tmp_path_factory.mktemp("up")
    clip = make_clip(folder / "clip.mp4", frames=12)
    # The doors between services know keys of objects alone: the clip is put where the store keeps them.
    key = "local/assets/clip"
    program = (
        "import asyncio, sys; from pathlib import Path; from services.common.store.folder import FolderStore; "
        "asyncio.run(FolderStore(Path(sys.argv[1])).put_file(sys.argv[2], Path(sys.argv[3])))"
    )
    subprocess.run(
        [sys.executable, "-c", program, folder / "data/objects", key, clip], cwd=ROOT, check=True, timeout=60
    )
    first = free_run_of_ports(7)
    command = [sys.executable, "-m", "services.standalone", "up", "--data", str(folder / "data")]
    command += ["--first-port", str(first), "--metrics", f"127.0.0.1:{first + 6}"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        targets = _printed(process, folder / "log")
        yield Up(targets, key, targets.pop("metrics"))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
        assert status in (0, 130, -signal.SIGTERM), (folder / "log").read_text()[-2000:]


def _printed(process: subprocess.Popen[str], log: Path) -> dict[str, str]:
    """Addresses by service, as `up` says them before `ready`."""
    assert process.stdout is not None
    until = time.monotonic() + START_S
    targets = {}
    while time.monotonic() < until:
        line = process.stdout.readline().strip()
        if line == "ready":
            return targets
        if not line and process.poll() is not None:
            break
        if line and not line.startswith("{"):
            name, target = line.split()
            targets[name] = target
    raise AssertionError(f"up did not get ready: {log.read_text()[-3000:]}")


def test_a_node_client_probes_and_detects(up: Up, tmp_path: Path) -> None:
    picture = talker.portrait()
    (tmp_path / "picture.rgb").write_bytes(picture.tobytes())
    height, width = picture.shape[:2]
    answer = subprocess.run(
        [
            node_program(),
            ROOT / "tests/node/client.mjs",
            *(up.targets["ingest"], up.targets["detector"], up.asset_key, tmp_path / "picture.rgb"),
            *(str(width), str(height)),
        ],
        capture_output=True,
        text=True,
        timeout=CALL_S,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert (said["info"]["width"], said["info"]["height"], said["info"]["codec"]) == (320, 240, "h264")
    assert said["faces"] == 1
    not_found = 5
    assert said["refusal"]["code"] == not_found


def test_buf_curl_probes_and_detects(up: Up) -> None:
    probed = _buf(up.targets["ingest"], "IngestService/Probe", {"assetKey": up.asset_key})
    assert probed["info"]["width"] == 320
    grey = {"firstIndex": "0", "pts": ["0"], "width": 8, "height": 8, "format": "PIXEL_FORMAT_RGB24"}
    found = _buf(
        up.targets["detector"],
        "DetectorService/Detect",
        {"frames": {**grey, "payload": {"inline": "gICA" * 64}}},
    )
    assert found["frames"] in ([{}], [{"index": "0"}])


def test_a_service_says_over_the_wire_why_it_refuses(up: Up) -> None:
    answer = _curl(up.targets["ingest"], "IngestService/Probe", {"assetKey": "local/assets/absent"})
    assert answer.returncode != 0
    said = json.loads(answer.stderr)
    assert said["code"] == "not_found"
    value = next(detail["value"] for detail in said["details"] if detail["type"] == "google.rpc.ErrorInfo")
    info = error_details_pb2.ErrorInfo.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))
    assert (info.domain, info.reason) == ("masquerade", "OBJECT_MISSING")


def test_prometheus_reads_what_was_called(up: Up) -> None:
    import urllib.request

    _buf(up.targets["ingest"], "IngestService/Probe", {"assetKey": up.asset_key})
    with urllib.request.urlopen(f"http://{up.metrics}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'grpc_service="masquerade.v1.IngestService"' in text
    assert "masquerade_event_loop_lag_seconds" in text


def _buf(target: str, method: str, request: dict[str, object]) -> dict[str, object]:
    answer = _curl(target, method, request)
    assert answer.returncode == 0, answer.stderr
    said: dict[str, object] = json.loads(answer.stdout)
    return said


def _curl(target: str, method: str, request: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", "--schema", "protos"),
            *("-d", json.dumps(request), f"http://{target}/masquerade.v1.{method}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CALL_S,
        check=False,
    )
