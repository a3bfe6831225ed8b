"""Generates the stubs of the contract into masquerade/v1; with --check, only says whether they are current."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "protos/masquerade/v1").glob("*.proto"))
STUBS = ROOT / "masquerade/v1"


def generate(out: Path) -> None:
    """Writes messages with their types, and clients and servicers for the files that hold a service."""
    include = [f"-I{ROOT / 'protos'}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
    plugin = f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).parent / 'protoc-gen-mypy_grpc'}"
    services = [path for path in SOURCES if "\nservice " in path.read_text()]
    _run(["protoc", *include, f"--python_out={out}", f"--pyi_out={out}", *map(str, SOURCES)])
    _run(["protoc", *include, plugin, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *map(str, services)])


def _run(arguments: list[str]) -> None:
    if protoc.main(arguments) != 0:
        sys.exit(f"protoc failed: {' '.join(arguments)}")


def _stale(fresh: Path) -> list[str]:
    """Names of stubs that differ, are missing, or have no source any more."""
    made = {path.name: path.read_bytes() for path in fresh.iterdir()}
    kept = {path.name: path.read_bytes() for path in STUBS.glob("*_pb2*")}
    return sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))


def main() -> None:
    """Entry of `make proto` and of the check in `make lint`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a stub is not current")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "masquerade/v1"
        stale = _stale(fresh)
        if arguments.check:
            sys.exit(f"stubs are not current, run `make proto`: {', '.join(stale)}" if stale else 0)
        for name in stale:
            target = STUBS / name
            source = fresh / name
            if source.exists():
                target.write_bytes(source.read_bytes())
            else:
                target.unlink()
    print(f"{len(stale)} stubs written" if stale else "stubs are current")


if __name__ == "__main__":
    main()
