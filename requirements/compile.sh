#!/usr/bin/env bash
# Makes the locks: every package with its hashes, no host named. Run by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_CUSTOM_COMPILE_COMMAND="make lock"
compile() { uv pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"; }
compile requirements/cpu.in --output-file requirements/cpu.lock
compile requirements/dev.in --output-file requirements/dev.lock
compile requirements/gpu.in --override requirements/gpu.override --output-file requirements/gpu.lock
