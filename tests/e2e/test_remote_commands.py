"""`masquerade jobs|identities|assets` as people type them, against one `masquerade up`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import make_clip
from tests.e2e.pictures import seen_by_camera, write_portrait
from tests.e2e.ports import free_ports
from tests.support.pages import ROOT, Reader
from tests.support.starter_models import require_weights

FRAMES = 24
CALL_S = 60
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ID = re.compile(r"(job|asset|idn)_[a-z2-7]{26}")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command went."""

    code: int
    out: str
    err: str

    @property
    def id(self) -> str:
        """The only line that it printed."""
        (line,) = self.out.splitlines()
        assert ID.fullmatch(line), line
        return line

    @property
    def json(self) -> list[Any]:
        """An object from each line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Shell:
    """Somebody at a shell beside the mesh."""

    reader: Reader

    @property
    def folder(self) -> Path:
        return self.reader.folder

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """A command in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "services.standalone", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: object, **environment: str) -> Ended:
        """A command to its end."""
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=CALL_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return Ended(process.returncode, out, err)

    def done(self, *arguments: object) -> Ended:
        """A command that ends well and says nothing on standard error."""
        ended = self.run(*arguments)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended

    def refused(self, *arguments: object, code: int = 2, **environment: str) -> str:
        """What a command says that is refused: one line, nothing else."""
        ended = self.run(*arguments, **environment)
        assert (ended.code, ended.out) == (code, ""), ended
        assert ended.err.count("\n") == 1
        assert ended.err.endswith("\n")
        return ended.err

    def on_terminal(self, columns: int, *arguments: object) -> list[str]:
        """Lines of a command on a terminal so many columns wide."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "services.standalone", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(TERM="xterm"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        said = b""
        try:
            while chunk := os.read(ours, 65536):
                said += chunk
        except OSError:
            assert said  # The other end was closed: that is how a terminal ends.
        finally:
            os.close(ours)
            assert process.wait(CALL_S) == 0, said.decode()
        return STYLE.sub("", said.decode()).splitlines()

    def environment(self, **more: str) -> dict[str, str]:
        """Without anything that says how wide a terminal is."""
        known = {name: value for name, value in self.reader.environment.items() if name not in ("COLUMNS", "LINES")}
        return {**known, "PYTHONPATH": str(ROOT), "MASQUERADE_ENDPOINT": self.reader.public, **more}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    require_weights()
    folder = tmp_path_factory.mktemp("remote")
    make_clip(folder / "talk.mp4", frames=FRAMES, gop=8, bf=2, audio="aac", draw=seen_by_camera)
    make_clip(folder / "long.mp4", frames=900, size=(640, 360))
    write_portrait(folder / "anna.png")
    reader = Reader(folder, first_port=free_ports(8) + 1)
    with reader.server("masquerade up"):
        yield Shell(reader)


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_job_from_files_to_files_and_again_with_other_settings(shell: Shell) -> None:
    submitted = shell.done(
        *("jobs", "submit", "talk.mp4", "--face", "anna.png", "--consent", "attested:Anna agreed on 3 May"),
        *("--background", "blur", "--tag", "episode=12", "--request-id", "twelve"),
    )
    job = submitted.id
    watched = shell.done("jobs", "watch", job)
    assert "making frames" in watched.out
    fetched = shell.done("jobs", "fetch", job, "-o", "out.mp4", "--report", "report.json", "--record", "record.json")
    assert fetched.out.splitlines() == ["report.json", "record.json", "out.mp4"]
    assert frames(shell.folder / "out.mp4") == FRAMES
    assert json.loads((shell.folder / "report.json").read_text())
    (shown,) = shell.done("jobs", "show", job, "--json").json
    assert (shown["state"], shown["spec"]["labels"]) == ("JOB_STATE_SUCCEEDED", {"episode": "12"})
    assert [line.split()[1] for line in shell.done("jobs", "show", job).out.splitlines()[:3]] == [
        *(job, "succeeded", "twelve")
    ]
    again = shell.done("jobs", "rerender", job, "--background", "#204060", "-o", "blue.mp4")
    assert again.out.splitlines()[-1] == "blue.mp4"
    assert frames(shell.folder / "blue.mp4") == FRAMES
    (other,) = shell.done("jobs", "show", again.out.splitlines()[0], "--json").json
    assert (other["rerender_of"], other["spec"]["background"]["rgb"]) == (job, 0x204060)
    assert other["spec"]["identities"] == shown["spec"]["identities"]
    listed = shell.done("jobs", "list", "--json", "--tag", "episode=12").json
    assert [each["id"] for each in listed] == [other["id"], job]
    assert [each["id"] for each in shell.done("jobs", "list", "--json", "--limit", "1").json] == [other["id"]]
    steps = shell.done("jobs", "watch", job, "--json").json
    assert [each["sequence"] for each in steps] == sorted({each["sequence"] for each in steps}, key=int)
    # The same words again: the same job, and no second one.
    same = shell.done(
        *("jobs", "submit", "talk.mp4", "--face", "anna.png", "--consent", "attested:Anna agreed on 3 May"),
        *("--background", "blur", "--tag", "episode=12", "--request-id", "twelve"),
    )
    assert same.id == job
    shell.done("jobs", "delete", other["id"])
    assert shell.refused("jobs", "show", other["id"]).startswith("JOB_NOT_FOUND: ")


def test_ctrl_c_of_watch_leaves_the_job_running_until_it_is_cancelled_and_taken_up_again(shell: Shell) -> None:
    job = shell.done("jobs", "submit", "long.mp4", "--background", "blur").id
    watching = shell.start("jobs", "watch", job, "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["state"] == "JOB_STATE_QUEUED"
    time.sleep(0.5)
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=CALL_S)
    assert (watching.returncode, said.count("\n")) == (130, 1)
    assert said.startswith("CANCELLED: ")
    assert "the job goes on" in said
    (shown,) = shell.done("jobs", "show", job, "--json").json
    assert shown["state"] not in ("JOB_STATE_CANCELLED", "JOB_STATE_FAILED", "JOB_STATE_SUCCEEDED")
    assert shell.refused("jobs", "delete", job).startswith("JOB_STATE_FORBIDS: ")
    shell.done("jobs", "cancel", job)
    ended = shell.run("jobs", "watch", job)
    assert ended.code == 130
    assert ended.err.startswith(f"CANCELLED: the job {job} was cancelled")
    assert shell.done("jobs", "retry", job).id == job
    (shown,) = shell.done("jobs", "show", job, "--json").json
    assert shown["state"] != "JOB_STATE_CANCELLED"
    shell.done("jobs", "cancel", job)
    assert shell.run("jobs", "fetch", job, "-o", "never.mp4").code == 130
    assert not (shell.folder / "never.mp4").exists()
    shell.done("jobs", "delete", job)


def test_faces_and_files_are_added_listed_and_removed(shell: Shell) -> None:
    added = shell.done("identities", "add", "Anna", "anna.png", "--consent", "self")
    face = added.out.splitlines()[-1]
    assert ID.fullmatch(face)
    (known,) = [each for each in shell.done("identities", "list", "--json").json if each["id"] == face]
    assert (known["name"], known["consent"]["method"]) == ("Anna", "CONSENT_METHOD_SELF")
    (shell.folder / "one.txt").write_text("one")
    (shell.folder / "two.txt").write_text("two")
    stored = shell.done("assets", "put", "one.txt", "two.txt").out.split()
    listed = [each["id"] for each in shell.done("assets", "list", "--json").json]
    assert listed[:2] == stored[::-1]
    assert shell.done("assets", "fetch", stored[0], "-o", "back.txt").out == "back.txt\n"
    assert (shell.folder / "back.txt").read_text() == "one"
    shell.done("assets", "delete", *stored)
    assert not set(stored) & {each["id"] for each in shell.done("assets", "list", "--json").json}
    shell.done("identities", "revoke", face)
    shell.done("identities", "delete", face)
    assert face not in shell.done("identities", "list").out


@pytest.mark.parametrize("columns", [80, 180])
@pytest.mark.parametrize("part", ["jobs", "assets", "identities"])
def test_a_table_is_readable_on_a_terminal(shell: Shell, columns: int, part: str) -> None:
    if part == "identities":
        shell.done("identities", "add", "Somebody with a long name", "anna.png", "--consent", "self")
    rows = shell.done(part, "list", "--json").json
    assert rows
    lines = shell.on_terminal(columns, part, "list")
    assert max(map(len, lines)) <= columns
    # What people copy stands whole in one line, and no other column is so narrow that it makes a tower of a row.
    assert [ID.search(line)[0] for line in lines if ID.search(line)] == [each["id"] for each in rows]
    assert len(lines) <= 2 * len(rows) + 6
    titles = lines[1].split()
    assert titles[0] == "id"
    last = {"jobs": "failed", "assets": "until", "identities": "portraits"}[part]
    assert (last in titles) == (columns > 100)


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (("jobs", "submit", "absent.mp4"), "INPUT_MISSING: absent.mp4"),
        (("jobs", "submit", "talk.mp4", "--face", "anna.png"), "INVALID_SPEC: --consent"),
        (("jobs", "submit", "--background", "blur"), "INVALID_SPEC: "),
        (("jobs", "list", "--state", "asleep"), "INVALID_SPEC: --state: 'asleep' is no state"),
        (("jobs", "list", "--tag", "x"), "INVALID_SPEC: --tag"),
        (("assets", "fetch", "asset_" + "a" * 26, "-o", "x"), "ASSET_NOT_FOUND: "),
        (("identities", "delete", "idn_" + "a" * 26), "IDENTITY_NOT_FOUND: "),
        (("identities", "add", "Anna", "anna.png", "--consent", "perhaps"), "INVALID_SPEC: --consent"),
        (("jobs", "list", "--key-file", "absent.key"), "INPUT_MISSING: absent.key"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_is_refused_is_one_line_and_exit_2(shell: Shell, arguments: tuple[str, ...], begins: str) -> None:
    assert shell.refused(*arguments).startswith(begins)


def test_a_mesh_that_is_not_there_is_exit_1(shell: Shell) -> None:
    said = shell.refused("jobs", "list", code=1, MASQUERADE_ENDPOINT="127.0.0.1:1")
    assert said.startswith("UNAVAILABLE: the mesh does not answer")
