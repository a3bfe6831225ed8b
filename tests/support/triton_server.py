"""A real tritonserver for tests: our own repository, hosted on a CPU, on loopback, gone when the test is.

The server comes from a wheel (see triton_environment.py) that carries its Python backend alone; the shipped configs are
rewritten so that this backend hosts the ONNX files. Batching, queues, warm-up, versions and I/O stay as shipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient, model_config_pb2
from tritonclient.utils import InferenceServerException

from tests.support.triton_environment import ENVIRONMENT, library_folder

_HOST = Path(__file__).with_name("triton_model_host.py")
_STUB = "triton_python_backend_stub"
_SHARED_MEMORY = Path("/dev/shm")
_DYING_WITH_US = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
"""Asks to be killed (PR_SET_PDEATHSIG) when the tests die, and becomes the server. Not in Popen's preexec_fn: a fork of
this process runs gRPC's handlers for forks, and a child died there before it became the server."""

_STARTED = b"Started Metrics Service at"
"""Logged after the last of the three ports is bound: gRPC answers earlier, and the server may yet leave."""

ModelEdit = Callable[["model_config_pb2.ModelConfig"], None]


def host_repository(shipped: Path, folder: Path, *, edit: ModelEdit | None = None) -> Path:
    """A copy of a repository that the Python backend can host; weights are links to the shipped ones."""
    for config_file in sorted(shipped.glob("*/config.pbtxt")):
        config = text_format.Parse(config_file.read_text(), model_config_pb2.ModelConfig())
        hosted = folder / config_file.parent.name
        for weights in config_file.parent.glob("[0-9]*/model.onnx"):
            version = hosted / weights.parent.name
            version.mkdir(parents=True)
            (version / "model.onnx").symlink_to(weights.resolve())
            shutil.copyfile(_HOST, version / "model.py")
        config.backend, config.platform, config.default_model_filename = "python", "", ""
        config.ClearField("optimization")
        config.ClearField("instance_group")
        config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
        if edit:
            edit(config)
        (hosted / "config.pbtxt").write_text(text_format.MessageToString(config))
    return folder


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class TritonServer:
    """One server. `start` answers when it is ready to infer; the same ports are used again after `stop`."""

    def __init__(self, repository: Path, work: Path) -> None:
        self._repository = repository
        self._work = work
        self._http, self._grpc, self._metrics = free_ports(3)
        # Random, not made from a port: two servers once shared a name, and one of them removed the other's memory.
        self._name = "mq" + os.urandom(4).hex() + "_"
        self._log = work / "triton.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """Where its gRPC answers."""
        return f"127.0.0.1:{self._grpc}"

    @property
    def pid(self) -> int:
        """Of the server that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self, timeout_s: float = 80.0) -> None:
        """Start and wait until every model has warmed up."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._work,
                env=self._variables(),
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while _STARTED not in self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"tritonserver did not start: {self.why()}")
            time.sleep(0.05)
        self._check_identity()

    def stop(self, grace_s: float = 15.0) -> None:
        """Let it finish what runs, then make sure that nothing of it is left."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._sweep()

    def kill(self) -> None:
        """Take it away in the middle of its work."""
        if self._process is not None:
            self._process.kill()
            self._sweep()

    def why(self) -> str:
        """The lines of its log that say what went wrong."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if line.startswith("E") or "error" in line.lower())[-3000:]

    def _command(self) -> list[str]:
        server = self._site() / "pytriton" / "tritonserver"
        return [
            *(sys.executable, "-I", "-c", _DYING_WITH_US),
            str(server / "bin" / "tritonserver"),
            f"--id={self._name}",
            f"--model-repository={self._repository}",
            f"--backend-directory={self._backends(server)}",
            "--disable-auto-complete-config",
            "--allow-gpu-metrics=false",
            "--exit-timeout-secs=10",
            *(f"--{door}-address=127.0.0.1" for door in ("http", "grpc", "metrics")),
            f"--http-port={self._http}",
            f"--grpc-port={self._grpc}",
            f"--metrics-port={self._metrics}",
            f"--backend-config=python,shm-region-prefix-name={self._name}",
            "--backend-config=python,stub-timeout-seconds=60",
        ]

    def _variables(self) -> dict[str, str]:
        # Complete, nothing inherited: the stub takes the first python3 on PATH, and the project's has NumPy 2.
        return {
            "PATH": f"{ENVIRONMENT}/bin:/usr/bin:/bin",
            "HOME": str(self._work),
            "LANG": "C.UTF-8",
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_LIBRARY_PATH": f"{self._site()}/nvidia_pytriton.libs:{library_folder()}",
        }

    def _backends(self, server: Path) -> Path:
        """A folder with the Python backend and its stub side by side; the wheel ships them apart."""
        backends = self._work / "backends"
        python = backends / "python"
        if not python.exists():
            python.mkdir(parents=True)
            for file in (server / "backends" / "python").glob("*.*"):
                (python / file.name).symlink_to(file)
            (python / _STUB).symlink_to(server / "python_backend_stubs" / "3.11" / _STUB)
        return backends

    def _check_identity(self) -> None:
        """A taken port lets another server answer in our place, or makes ours leave a moment after it said ready."""
        assert self._process is not None
        try:
            with InferenceServerClient(self.target) as client:
                name = client.get_server_metadata(client_timeout=5.0).name
                ready = client.is_server_ready(client_timeout=5.0)
        except InferenceServerException as problem:
            self.stop()
            raise RuntimeError(f"tritonserver does not answer: {self.why()}") from problem
        gone = b"failed to start" in self._log.read_bytes() or self._process.poll() is not None
        if name != self._name or not ready or gone:
            self.stop()
            raise RuntimeError(f"tritonserver is not ours or not ready: {self.why()}")

    def _sweep(self) -> None:
        assert self._process is not None
        self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # stubs that outlived it; the session is its own
        for left in _SHARED_MEMORY.glob(self._name + "*"):
            left.unlink(missing_ok=True)
        self._process = None

    @staticmethod
    def _site() -> Path:
        return ENVIRONMENT / "lib" / "python3.11" / "site-packages"
