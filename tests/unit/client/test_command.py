"""The remote half of the command, without a mesh: how it ends, what it reads, how long it takes to say what it can."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

from masquerade.client import Access, Client, ClientError, JobSpec
from masquerade.client.errors import Violation
from masquerade.command import ending, options
from masquerade.command.misread import Misread
from masquerade.command.wanted import Wanted, parse_consent, parse_tags, spec_of
from masquerade.v1 import job_pb2
from services.common.error_table import TABLE

ROOT = Path(__file__).resolve().parents[3]


def test_every_reason_of_the_server_ends_with_the_servers_exit_code() -> None:
    assert {reason: ending.exit_code(reason) for reason in TABLE} == {
        reason: int(explanation.exit) for reason, explanation in TABLE.items()
    }


def test_every_code_of_grpc_is_a_fault_of_the_mesh_unless_it_says_more() -> None:
    ours = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS")
    assert {ending.exit_code(name) for name in ours} == {ending.FAULT}
    assert {code.name for code in grpc.StatusCode} > set(ours)


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (
            ClientError("INVALID_SPEC", "two\nlines", remedy="mend it", violations=(Violation("spec.a", "is bad"),)),
            "INVALID_SPEC: two lines; spec.a: is bad. mend it\n",
            2,
        ),
        (ClientError("INTERNAL", "a fault of ours"), "INTERNAL: a fault of ours.\n", 1),
        (
            Misread("--tag", "'x' is no NAME=VALUE", "write it"),
            "INVALID_SPEC: --tag: 'x' is no NAME=VALUE. write it\n",
            2,
        ),
        (KeyboardInterrupt(), "CANCELLED: it was interrupted. the job goes on\n", 130),
    ],
    ids=["violations", "fault", "misread", "interrupt"],
)
def test_an_error_is_one_line(error: BaseException, line: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, ending.told_in_a_line(left="the job goes on"):
        raise error
    assert (caught.value.code, capsys.readouterr().err) == (code, line)


def test_a_mesh_that_does_not_answer_is_told_with_what_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), ending.told_in_a_line():
        raise ClientError("UNAVAILABLE", "failed to connect", code=grpc.StatusCode.UNAVAILABLE)
    said = capsys.readouterr().err
    assert "the mesh does not answer" in said
    assert "MASQUERADE_ENDPOINT" in said


@pytest.mark.parametrize("command", [[], ["jobs"], ["jobs", "submit"], ["assets"], ["identities"]])
def test_help_is_quick_and_loads_no_grpc(command: list[str]) -> None:
    program = (
        f"import sys\nfrom services.standalone.cli.main import main\nsys.argv[1:] = {[*command, '--help']}\n"
        "try:\n    main()\nfinally:\n    print([m for m in ('grpc', 'numpy', 'google.protobuf') if m in sys.modules])"
    )
    used = []
    for _ in range(3):
        # Beside what reading a command line and drawing a table cost in any program: in turn, on whatever machine.
        bare, _ = cpu_seconds("import typer, rich.table, rich.panel, rich.markdown")
        ours, said = cpu_seconds(program)
        assert said.rstrip().endswith("\n[]")
        used.append(ours / bare)
        if used[-1] < 4:
            return
    raise AssertionError(f"CPU seconds of --help beside those of an empty program: {used}")


def cpu_seconds(program: str) -> tuple[float, str]:
    """What a Python program costs, and what it says."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, answer.stdout


def test_tags_and_consents_are_read_or_refused() -> None:
    assert parse_tags(["a=b", "c=d=e", "f="]) == {"a": "b", "c": "d=e", "f": ""}
    assert parse_consent("self").method == job_pb2.CONSENT_METHOD_SELF
    assert parse_consent("attested: Anna agreed ").statement == "Anna agreed"
    for wrong in ("a", "=b", ""):
        with pytest.raises(Misread):
            parse_tags([wrong])
    for wrong in ("", "self:", "attested", "attested: ", "synthetic"):
        with pytest.raises(Misread):
            parse_consent(wrong)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Wanted(source="clip.mp4", faces=("anna.png",)), "--consent"),
        (Wanted(source="clip.mp4", background="#12345"), "--background"),
        (Wanted(source="clip.mp4", keep=("5:2",)), "--keep"),
        (Wanted(source="clip.mp4", labels=("x",)), "--tag"),
        (Wanted(source="clip.mp4", spec=Path("absent.json")), "--spec"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_refused_before_anything_is_sent(wanted: Wanted, field: str) -> None:
    # A client that was never opened: using it would be another error.
    with pytest.raises(Misread) as caught:
        spec_of(Client("127.0.0.1:1"), wanted)
    assert caught.value.field == field


def test_a_spec_comes_from_a_file_and_options_are_put_into_it(tmp_path: Path) -> None:
    given = JobSpec(asset_id="asset_" + "a" * 26, priority=3, labels={"a": "b"})
    (tmp_path / "spec.json").write_text(json.dumps(json_format.MessageToDict(given)))
    wanted = Wanted(
        spec=tmp_path / "spec.json", background="#0000ff", container="webm", keep=("1:2", "5:"), publish=("nas:a.mp4",)
    )
    spec = spec_of(Client("127.0.0.1:1"), wanted)
    assert (spec.asset_id, spec.priority, spec.background.rgb, spec.encode.container) == (
        given.asset_id,
        3,
        255,
        "webm",
    )
    assert [each.start_ms for each in spec.keep] == [1000, 5000]
    assert (spec.keep[0].end_ms, spec.keep[1].HasField("end_ms")) == (2000, False)
    assert (spec.publish[0].place, spec.publish[0].name) == ("nas", "a.mp4")


def test_where_the_mesh_is_and_whether_the_wire_is_tls(tmp_path: Path) -> None:
    assert Access.find(environ={}).endpoint == "127.0.0.1:50050"
    for near in ("127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/mesh"):
        assert not Access.find(near, environ={}).is_tls
    assert Access.find("mesh.example:443", environ={}).is_tls
    assert Access.find("127.0.0.1:1", environ={"MASQUERADE_CA": str(tmp_path)}).is_tls
    assert not Access.find("mesh.example:443", tls=False, environ={}).is_tls


@pytest.mark.parametrize("content", [b"two words", b"\xff\xfe", "schlüssel".encode()])
def test_a_file_that_holds_no_key_is_not_sent(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ClientError) as caught:
        Access.find("127.0.0.1:1", key_file=tmp_path / "key", environ={})
    assert caught.value.reason == "UNAUTHENTICATED"
    with pytest.raises(ClientError) as caught:
        Access.find("127.0.0.1:1", environ={"MASQUERADE_KEY_FILE": str(tmp_path / "absent")})
    assert caught.value.reason == "INPUT_MISSING"


def test_sizes_are_for_people() -> None:
    assert [options.size(n) for n in (0, 1023, 1024, 5 << 30, 5000 << 30)] == [
        *("0 B", "1023 B", "1.0 KiB", "5.0 GiB", "5000.0 GiB")
    ]


def test_who_interrupts_while_a_long_file_is_read_does_not_wait_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.truncate(64 << 30)  # Holes: nothing is on the disk.
    command = [sys.executable, "-m", "masquerade.command", "assets", "put", str(path), "--endpoint", "127.0.0.1:1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        opened, until = Path(f"/proc/{process.pid}/fd"), time.monotonic() + 20
        while path not in [each.resolve() for each in opened.iterdir()]:
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=8)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "")
    assert err == "CANCELLED: it was interrupted. the same command again goes on\n"
