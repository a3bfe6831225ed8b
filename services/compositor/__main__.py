"""Runs the compositor alone: `python -m services.compositor`."""

from __future__ import annotations

from services.common.running import run_service
from services.compositor.app import build
from services.compositor.settings import CompositorSettings

if __name__ == "__main__":
    run_service(CompositorSettings, build)
