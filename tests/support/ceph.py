"""A real S3 for tests: Ceph's gateway with one monitor and one store in memory, on the loopback, in a private folder.

Needs Debian's `radosgw ceph-mon ceph-osd ceph-common`; nothing is configured outside the folder and nothing stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
READY_WITHIN_S = 60
CONFIG = """
[global]
fsid = 6d0c3a7e-64f1-4c35-9d0a-0d6f6a1d7b11
mon host = v1:127.0.0.1:{mon_port}
auth cluster required = none
auth service required = none
auth client required = none
auth supported = none
ms bind msgr2 = false
ms bind ipv4 = true
public addr = 127.0.0.1
paxos propose interval = 0.05
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
osd objectstore = memstore
memstore device bytes = 1073741824
run dir = {folder}
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
log file = {folder}/$name.log
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
rgw enable usage log = false
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the server is and who may use it."""

    endpoint: str
    access_key: str
    secret_key: str


def is_installed() -> bool:
    """Whether all programs are there."""
    return all(shutil.which(program) for program in PROGRAMS)


@contextlib.contextmanager
def ceph_gateway(folder: Path) -> Iterator[Gateway]:
    """A gateway for as long as the block lasts; about 1.5 s to its first answer."""
    mon_port, gateway_port = _free_port(), _free_port()
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    config = folder / "ceph.conf"
    config.write_text(CONFIG.format(folder=folder, mon_port=mon_port, gateway_port=gateway_port))
    conf = ("-c", str(config))
    processes: list[subprocess.Popen[bytes]] = []
    with (folder / "output.log").open("wb") as log:

        def run(*command: str) -> bytes:
            return subprocess.run(command, check=True, timeout=25, stdout=subprocess.PIPE, stderr=log).stdout

        def ask(*command: str) -> bytes:
            """What the monitor answers. In its first moments it may know nobody yet and refuse anything (EPERM)."""
            until = time.monotonic() + READY_WITHIN_S
            while True:
                try:
                    return run("ceph", *conf, "--connect-timeout", "20", *command)
                except subprocess.CalledProcessError:
                    if time.monotonic() > until:
                        raise

        def start(*command: str) -> subprocess.Popen[bytes]:
            processes.append(subprocess.Popen([*command, *conf, "-f"], stdout=log, stderr=log))
            return processes[-1]

        try:
            fsid = "6d0c3a7e-64f1-4c35-9d0a-0d6f6a1d7b11"
            monmap = str(folder / "monmap")
            run("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{mon_port}]", "--fsid", fsid, monmap)
            run("ceph-mon", *conf, "--mkfs", "-i", "a", "--monmap", monmap)
            start("ceph-mon", "-i", "a")
            run("ceph-osd", *conf, "-i", "0", "--mkfs", "--mkkey")
            # A store in memory makes up its own id when it is made; the monitor must be told that one.
            osd = (folder / "osd" / "fsid").read_text().strip()
            ask("osd", "new", osd, "0")
            _until_it_runs(lambda: start("ceph-osd", "-i", "0"), lambda: ask("osd", "stat"))
            start("radosgw", "-n", "client.rgw")
            user = ("user", "create", "--uid=tests", "--display-name=tests", "--access-key=key", "--secret-key=secret")
            run("radosgw-admin", *conf, *user)
            _until_it_answers(f"http://127.0.0.1:{gateway_port}")
            yield Gateway(f"127.0.0.1:{gateway_port}", "key", "secret")
        finally:
            for process in reversed(processes):
                process.kill()
            for process in processes:
                process.wait(20)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _until_it_runs(start: Callable[[], subprocess.Popen[bytes]], status: Callable[[], bytes]) -> None:
    """Starts the store until the monitor counts it as up.

    A store that asks the monitor before it was told the cluster's id ends at once ("wrong fsid"): one start in ten.
    """
    until = time.monotonic() + READY_WITHIN_S
    store = start()
    while time.monotonic() < until:
        if b" 1 up" in status():
            return
        if store.poll() is not None:
            store = start()
    raise TimeoutError("the store was never up; its log is in the folder")


def _until_it_answers(url: str) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(url, timeout=2),
        ):
            return
        time.sleep(0.2)
    raise TimeoutError(f"no answer from {url} (started as user {os.getuid()})")
